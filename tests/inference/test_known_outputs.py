"""The log of outputs: excerpts are known again, also encoded anew and below other music, and others are not."""

import io
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.known_outputs.fingerprint import (
    LOWEST_DB,
    RATE_HZ,
    WAVE_RATE_HZ,
    Fingerprint,
    NoFingerprint,
    band_energies,
    cell_spectra,
    fingerprint_of,
    in_cells,
    levels_of,
    mono_of,
    wave_signs,
    waves_of,
    words_of,
)
from luthier_inference.known_outputs.index import SURE_NATS, Index, evidence_of, faithfulness
from luthier_inference.known_outputs.kept import KnownOutputs
from luthier_kit.store import Store
from luthier_music.audio_rate import resampled
from luthier_music.native import masked_distances
from tests.support.hostile_bytes import damaged
from tests.support.services import temp_store

RATE = 22_050
Floats = NDArray[np.float32]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temp_store(tmp_path / "store") as store:
        yield store


def music(seed: int, seconds: float = 20.0) -> Floats:
    """Plucked notes of five harmonics at random times over soft noise (frames, 2)."""
    chance = np.random.default_rng(seed)
    sound = 0.003 * chance.standard_normal(int(seconds * RATE))
    for _ in range(int(seconds * 6)):
        first, length = int(chance.integers(0, len(sound) - 100)), int(chance.uniform(0.1, 0.8) * RATE)
        at = np.arange(min(length, len(sound) - first)) / RATE
        hz = 110 * 2 ** (chance.integers(0, 36) / 12)
        for harmonic in range(1, 6):
            sound[first : first + len(at)] += np.sin(2 * np.pi * hz * harmonic * at) * np.exp(-6 * at) / harmonic
    return np.repeat((0.2 * sound / np.abs(sound).max()).astype(np.float32)[:, None], 2, axis=1)


def note(seconds: float, hz: float = 110.0) -> Floats:
    """A note that is held, of five harmonics, (frames, 2)."""
    at = np.arange(int(seconds * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * hz * harmonic * at) / harmonic for harmonic in range(1, 6))
    return np.repeat((0.2 * sound / np.abs(sound).max()).astype(np.float32)[:, None], 2, axis=1)


def index_of(*seeds: int) -> Index:
    index = Index(64 << 20)
    for seed in seeds:
        fingerprint = fingerprint_of(music(seed), RATE)
        assert fingerprint is not None
        index.add(str(seed), fingerprint)
    return index


def rms(samples: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def test_an_excerpt_below_other_music_is_known_where_it_lies() -> None:
    excerpt, over = music(2)[int(6.3 * RATE) : int(16.3 * RATE)], music(9)[: 10 * RATE]
    mix = excerpt * 10 ** (-6 / 20) * rms(over) / rms(excerpt) + over

    [found] = index_of(1, 2, 3).search(mix, RATE)

    assert found.output == "2"
    assert found.output_at_s - found.at_s == pytest.approx(6.3, abs=0.02)


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_an_excerpt_that_was_encoded_anew_is_known(container: str, subtype: str) -> None:
    coded, rate = io.BytesIO(), 24_000 if subtype == "OPUS" else RATE
    soundfile.write(coded, music(2)[5 * RATE : 15 * RATE], rate, format=container, subtype=subtype)
    heard, rate = soundfile.read(io.BytesIO(coded.getvalue()), dtype="float32", always_2d=True)

    [found] = index_of(1, 2, 3).search(heard, RATE)

    assert found.output == "2"


@pytest.mark.parametrize("duration_s", [3.0, 4.5, 7.0])
def test_a_short_excerpt_is_known_and_one_of_another_song_is_not(duration_s: float) -> None:
    index, length = index_of(1, 2, 3), int(duration_s * RATE)

    [found] = index.search(music(2)[5 * RATE : 5 * RATE + length], RATE)

    assert found.output == "2"
    assert [index.search(music(seed, duration_s), RATE) for seed in range(20, 25)] == [[]] * 5


def test_what_was_never_logged_is_not_known() -> None:
    index = index_of(1, 2, 3)

    assert [index.search(music(seed, 10.0), RATE) for seed in range(20, 30)] == [[]] * 10


def test_another_song_that_holds_the_same_note_is_not_known() -> None:
    held, index = note(20.0), Index(64 << 20)
    logged = fingerprint_of(music(2) + held, RATE)
    assert logged is not None
    index.add("logged", logged)

    found = index.search((music(5) + held)[5 * RATE : 15 * RATE], RATE)
    copy = index.search((music(2) + held)[5 * RATE : 15 * RATE], RATE)

    assert (found, [each.output for each in copy]) == ([], ["logged"])


def waves(seed: int) -> Floats:
    """10 s of music at the rate of waves."""
    return waves_of(resampled(music(seed, 10.0)[:, 0], RATE, RATE_HZ))


def evidence(heard: Floats, logged: Floats) -> float:
    levels = levels_of(logged)
    return evidence_of(heard, wave_signs(logged), levels, faithfulness(levels))


@pytest.mark.parametrize("gain", [0.01, -0.3, 1.0, 20.0])
def test_a_copy_at_any_gain_or_upside_down_is_one(gain: float) -> None:
    assert evidence(waves(3) * np.float32(gain), waves(3)) > 2 * SURE_NATS


@pytest.mark.parametrize("gain_db", [-40.0, -12.0, 0.0])
def test_another_sound_with_a_note_of_the_copy_is_none(gain_db: float) -> None:
    """However loud the note is, on which its waves agree: what else the copy has is not there."""
    held = waves_of(resampled(note(10.0)[:, 0], RATE, RATE_HZ))

    assert evidence(waves(4) + held * np.float32(10 ** (gain_db / 20)), waves(3) + held) < SURE_NATS


def test_waves_that_lie_half_a_sample_beside_are_the_copy() -> None:
    own = waves(3)
    late = np.exp(-1j * np.pi * np.fft.rfftfreq(own.size))

    beside = np.fft.irfft(np.fft.rfft(own) * late, own.size).astype(np.float32)

    assert evidence(beside, own) == pytest.approx(evidence(own, own), rel=0.1)


def test_signs_are_as_faithful_to_noise_as_van_vleck_says() -> None:
    noise = np.random.default_rng(5).standard_normal(40 * WAVE_RATE_HZ).astype(np.float32)

    faithful = faithfulness(levels_of(noise))

    assert faithful.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)


def test_signs_are_as_faithful_to_music_as_they_are_measured_to_be() -> None:
    own = np.concatenate([waves(seed) for seed in (3, 4, 5)])
    spectra, of_signs = cell_spectra(own), cell_spectra(wave_signs(own))

    faithful = faithfulness(levels_of(own))

    power, cross = (in_cells(np.real(one * np.conj(spectra))) for one in (spectra, of_signs))
    measured = cross / np.sqrt(power * in_cells(np.abs(of_signs) ** 2))
    assert np.corrcoef(measured.ravel(), faithful.ravel())[0, 1] > 0.8
    assert faithful.mean() == pytest.approx(measured.mean(), abs=0.1)


def test_a_sine_has_its_power_in_one_band() -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(4 * WAVE_RATE_HZ) / WAVE_RATE_HZ).astype(np.float32)

    levels = levels_of(sine)

    # 8 frames of 512, each with a fourth of the square of its size, and by Hann's window 1.5 times as much beside it
    wanted_db = 10 * np.log10(8 * 1.5 * (512 / 4) ** 2)
    assert levels.shape == (4, 20)
    assert levels[:, int(20 * np.log10(4.4))] == pytest.approx(wanted_db - LOWEST_DB, abs=1)
    assert np.sort(levels, axis=1)[:, -3].max() < wanted_db - LOWEST_DB - 30


def test_what_version_1_logged_is_passed_over(store: Store) -> None:
    old = (Path(__file__).parent / "fingerprint_v1.safetensors").read_bytes()
    store.put("generated", pb.LoggedOutput(version=1, fingerprint=old, duration_s=4.0))
    log = KnownOutputs(store, 64 << 20)
    kept(log, 2)

    found = log.search(music(2, 4.0), RATE)

    assert found.among == 1
    with pytest.raises(NoFingerprint):
        Fingerprint.from_bytes(old)


def test_the_filter_of_outputs_gives_what_the_resampler_gives() -> None:
    sound = np.random.default_rng(5).standard_normal((10 * 44_100, 2)).astype(np.float32)

    ours, other = (
        words_of(band_energies(mono_of(sound, 44_100))),
        words_of(band_energies(resampled(sound.mean(axis=1), 44_100, RATE_HZ))),
    )

    assert np.bitwise_count(ours ^ other).sum() < 0.01 * 32 * ours.size


@pytest.mark.parametrize("before_s", [2.0, 5.0, 7.0])
def test_an_excerpt_that_begins_before_an_output_is_known_from_its_beginning_on(before_s: float) -> None:
    excerpt = np.concatenate([music(9, before_s), music(2)[: int((10 - before_s) * RATE)]])

    [found] = index_of(1, 2).search(excerpt, RATE)

    assert (found.output, found.output_at_s) == ("2", 0.0)
    assert found.at_s == pytest.approx(before_s, abs=0.1)


def test_signs_of_a_sound_in_a_mix_agree_as_often_as_van_vleck_says() -> None:
    chance = np.random.default_rng(3)
    own, other = (chance.standard_normal(60 * RATE_HZ).astype(np.float32) for _ in range(2))
    quiet = 10 ** (-6 / 20)

    agreed = np.mean(wave_signs(waves_of(own)) == wave_signs(waves_of(quiet * own + other)))

    assert agreed == pytest.approx(0.5 + np.arcsin(quiet / np.hypot(quiet, 1)) / np.pi, abs=0.01)


def test_distances_are_those_of_the_bits_that_count() -> None:
    chance = np.random.default_rng(4)
    words, mask = (chance.integers(0, 2**32, 50, dtype=np.uint32) for _ in range(2))
    query = chance.integers(0, 2**32, 7, dtype=np.uint32)

    differ, counted = masked_distances(words, mask, query)

    bits = [
        [(bin(int(words[at + k] ^ query[k]) & int(mask[at + k])).count("1"), bin(int(mask[at + k])).count("1"))
         for k in range(7)] for at in range(44)
    ]  # fmt: skip
    assert [int(each) for each in differ] == [sum(one for one, _ in place) for place in bits]
    assert [int(each) for each in counted] == [sum(one for _, one in place) for place in bits]


@pytest.mark.parametrize("length", [0, 51])
def test_a_query_that_does_not_fit_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="query"):
        masked_distances(np.zeros(50, np.uint32), np.zeros(50, np.uint32), np.zeros(length, np.uint32))


@pytest.mark.parametrize("samples", [np.zeros((5 * RATE, 2), np.float32), music(1, 1.9)])
def test_silence_and_what_is_too_short_have_no_fingerprint(samples: Floats) -> None:
    assert fingerprint_of(samples, RATE) is None


def test_a_fingerprint_is_read_as_it_was_written_and_damaged_ones_are_refused() -> None:
    made = fingerprint_of(music(1), RATE)
    assert made is not None

    again = Fingerprint.from_bytes(made.to_bytes())
    assert again.to_bytes() == made.to_bytes()
    shorter = replace(made, levels=made.levels[:-1]).to_bytes()
    for data in (b"", b"x" * 100, made.to_bytes()[:-9], shorter, replace(made, levels=made.levels.T).to_bytes()):
        with pytest.raises(NoFingerprint):
            Fingerprint.from_bytes(data)


def test_the_oldest_give_way_where_memory_is_bounded() -> None:
    made = fingerprint_of(music(1), RATE)
    assert made is not None
    index = Index(100_000)

    gone = [name for number in range(20) for name in index.add(str(number), made)]

    assert index.size_bytes <= 100_000
    assert gone == [str(number) for number in range(20 - len(index))]


def kept(log: KnownOutputs, seed: int, **more: str) -> ArtifactRef:
    audio = ArtifactRef(key=f"generated/{seed:064x}.flac", sha256=f"{seed:064x}", size_bytes=1)
    state = log.keep(music(seed), RATE, audio, f"actions/generate/{seed}.json", "demo@1", more.get("watermark", ""))
    assert state == pb.OUTPUT_LOG_STATE_KEPT
    return audio


def test_what_one_server_made_another_knows(store: Store) -> None:
    one, other = KnownOutputs(store, 64 << 20), KnownOutputs(store, 64 << 20)
    other.search(music(9), RATE)
    audio = kept(one, 2, watermark="ab" * 16)

    found = other.search(music(2)[5 * RATE : 15 * RATE], RATE)

    assert [(each.output_key, each.action_key) for each in found.outputs] == [(audio.key, "actions/generate/2.json")]
    assert (found.among, other.action_of("ab" * 16)) == (1, "actions/generate/2.json")


def test_what_has_expired_is_not_known_any_more(store: Store) -> None:
    log = KnownOutputs(store, 64 << 20)
    kept(log, 2)
    assert log.search(music(2), RATE).outputs

    for key in list(store.objects.keys("generated/")):
        store.objects.delete(key)

    assert log.search(music(2), RATE).outputs == ()


def test_documents_of_others_are_passed_over(store: Store) -> None:
    chance = random.Random(1)
    for _ in range(20):
        data = damaged(b'{"version": 1, "fingerprint": "AAAA", "duration_s": 3}', chance)
        store.blobs.put_bytes("generated", data, "json")
    log = KnownOutputs(store, 64 << 20)
    kept(log, 2)

    assert log.search(music(2), RATE).among == 1


def test_a_log_that_is_switched_off_says_so(store: Store) -> None:
    log = KnownOutputs(store, 0)

    assert log.keep(music(1), RATE, ArtifactRef(), "", "", "") == pb.OUTPUT_LOG_STATE_OFF
    assert not list(store.objects.keys("generated/"))
