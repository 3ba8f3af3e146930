"""The watermark: put in by a program, found again before it counts, and stronger where it is not."""

import hashlib
import io
import shutil
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.watermark import Watermarker, payloads, watermarker_of
from luthier_kit.rpc import Cancelled, Internal, SettingsError
from tests.model.small import ModelFiles

from .conftest import request
from .test_credentials import detected, serve

PAYLOAD = "0123456789abcdef0011223344556677"
RATE = 44_100
PROGRAM = """#!/bin/sh
# add: copies, and notes payload and strength beside; get: what was noted, where it is strong enough.
case "$1" in
--version) echo fake ;;
add) {add}; cp "$7" "$8"; echo "$6 $9" > "$8.note" ;;
get) read strength payload < "$6.note"
  [ "$strength" -ge {needed} ] || payload=ffffffffffffffffffffffffffffffff
  echo "{{\\"matches\\": [{{\\"bits\\": \\"$payload\\", \\"pos\\": \\"1:07\\", \\"rating\\": 1.2}}]}}" > "$5" ;;
esac
"""


def program(folder: Path, needed: int = 10, add: str = ":") -> Watermarker:
    """One that has audiowmark's arguments, and whose marks are found from a strength on."""
    path, key = folder / "program", folder / "key"
    path.write_text(PROGRAM.format(needed=needed, add=add))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    key.write_text("key 00112233445566778899aabbccddeeff\n")
    return watermarker_of(str(path), str(key))


def noise(seconds: float = 1.0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(1).standard_normal((int(seconds * RATE), 2))).astype(np.float32)


@pytest.mark.parametrize(("needed", "strength"), [(10, 10.0), (15, 15.0), (20, 25.0)])
def test_it_counts_at_the_strength_at_which_it_is_found_again(tmp_path: Path, needed: int, strength: float) -> None:
    _, made = program(tmp_path, needed).put(noise(), RATE, PAYLOAD, tmp_path, threading.Event())

    assert (made.state, made.id, made.strength) == (pb.WATERMARK_STATE_VERIFIED, PAYLOAD, strength)


def test_what_is_never_found_again_is_left_as_it_was_and_said(tmp_path: Path) -> None:
    samples, made = program(tmp_path, 99).put(noise(), RATE, PAYLOAD, tmp_path, threading.Event())

    assert made.state == pb.WATERMARK_STATE_NOT_FOUND
    assert np.array_equal(samples, noise())


def test_levels_are_the_models_own(tmp_path: Path) -> None:
    loud = noise() * 20

    samples, _ = program(tmp_path).put(loud, RATE, PAYLOAD, tmp_path, threading.Event())

    assert np.allclose(samples, loud, rtol=1e-6)


def test_without_a_program_nothing_is_changed_and_the_response_says_so(tmp_path: Path) -> None:
    samples, made = Watermarker(None).put(noise(), RATE, PAYLOAD, tmp_path, threading.Event())

    assert made.state == pb.WATERMARK_STATE_OFF
    assert np.array_equal(samples, noise())


def test_a_program_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Internal, match="ended with 3"):
        program(tmp_path, add="exit 3").put(noise(), RATE, PAYLOAD, tmp_path, threading.Event())


def test_a_caller_who_leaves_ends_the_program(tmp_path: Path) -> None:
    gone = threading.Event()
    gone.set()

    with pytest.raises(Cancelled):
        program(tmp_path, add="exec sleep 60").put(noise(), RATE, PAYLOAD, tmp_path, gone)


def test_the_key_names_the_audio_and_is_not_told(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    made = program(first)
    other = program(second)
    assert made.named() == other.named()

    (second / "key").write_text("key ffffffffffffffffffffffffffffffff\n")

    changed = watermarker_of(str(second / "program"), str(second / "key")).named()
    assert changed != made.named()
    assert "0011223344" not in str(made.named())


@pytest.mark.parametrize("told", ["", "{}", '{"matches": [{"bits": "ab"}]}', '{"matches": 3}'])
def test_what_is_not_the_programs_json_is_an_error(told: str) -> None:
    with pytest.raises(Internal, match="not its JSON"):
        payloads(told)


def test_a_program_that_is_not_there_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LUTHIER_WATERMARK cannot be run"):
        watermarker_of(str(tmp_path / "nothing"), str(tmp_path / "key"))


@pytest.mark.skipif(not shutil.which("audiowmark"), reason="audiowmark is an operator's: it is not installed here")
def test_the_real_program_gives_the_same_bytes_for_the_same_key_and_payload(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("key 00112233445566778899aabbccddeeff\n")
    marker = watermarker_of(str(shutil.which("audiowmark")), str(key))
    sound = np.cumsum(noise(20.0), axis=0)
    sound = (0.5 * (sound - sound.mean(axis=0)) / np.abs(sound).max()).astype(np.float32)

    digests = set()
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        samples, made = marker.put(sound, RATE, PAYLOAD, folder, threading.Event())
        assert made.state == pb.WATERMARK_STATE_VERIFIED
        digests.add(hashlib.sha256(samples.tobytes()).hexdigest())

    assert len(digests) == 1


@pytest.mark.skipif(not shutil.which("audiowmark"), reason="audiowmark is an operator's: it is not installed here")
def test_a_file_that_was_encoded_anew_leads_to_the_record_of_its_making(
    model_files: ModelFiles, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("key 00112233445566778899aabbccddeeff\n")
    paths = {"watermark": str(shutil.which("audiowmark")), "watermark_key": str(key)}

    for served in serve(model_files, tmp_path, **paths):
        made = served.stub.Generate(request(seed=1, seconds_total=6.0, inline_audio=True))
        samples, rate_hz = soundfile.read(io.BytesIO(made.inline_audio), dtype="float32", always_2d=True)
        anew = io.BytesIO()
        soundfile.write(anew, samples, rate_hz, format="MP3")

        found = detected(served, anew.getvalue(), "mp3")

        assert made.marks.watermark == pb.WATERMARK_STATE_VERIFIED
        assert made.marks.watermark_id == made.action.action_key.rpartition("/")[2][:32]
        assert found.watermark.finding == pb.WATERMARK_FINDING_KNOWN
        assert found.watermark.action_key == made.action.action_key
