"""Music asked for in typed fields: bounds, prompts that say otherwise, the completed prompt, the length in bars."""

from fractions import Fraction
from typing import Any

import grpc
import pytest

from luthier.inference.v1 import inference_pb2 as pb
from tests.model.small import ModelFiles

from .conftest import Served, refusal

WALTZ: dict[str, Any] = {"tempo_bpm": 97.0, "key": "Gb minor", "meter": "3/4", "instruments": ["Piano", "drums"]}


def request(music: dict[str, Any], **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"steps": 2, "seed": 7, "music": pb.MusicFields(**music), **fields})


@pytest.mark.parametrize(
    ("music", "fields", "said"),
    [
        ({"tempo_bpm": 19.9}, {}, "music.tempo_bpm: must be between 20 and 400, got 19.9"),
        ({"tempo_bpm": float("nan")}, {}, "music.tempo_bpm: must be between 20 and 400"),
        ({"key": "H minor"}, {}, "music.key: must be a tonic and major or minor"),
        ({"key": "D dorian"}, {}, "music.key: must be a tonic and major or minor"),
        ({"meter": "0/4"}, {}, "music.meter: must be 1 to 32 over 1, 2, 4, 8, 16 or 32"),
        ({"meter": "33/4"}, {}, "music.meter: must be 1 to 32"),
        ({"meter": "4/3"}, {}, "music.meter: must be 1 to 32"),
        ({**WALTZ, "bars": 0}, {}, "music.bars: must be between 1 and 1000, got 0"),
        ({"bars": 8}, {}, "music.bars: needs music.tempo_bpm and music.meter"),
        ({"bars": 8, "tempo_bpm": 90.0}, {}, "music.bars: needs music.tempo_bpm and music.meter"),
        ({**WALTZ, "bars": 8}, {"seconds_total": 4.0}, "seconds_total: must be absent with music.bars"),
        ({"tempo_bpm": 400.0, "meter": "1/32", "bars": 1}, {}, "music.bars: must last between 0.1"),
        ({"instruments": ["piano"] * 6}, {}, "music.instruments: must have 0 to 5 items, got 6"),
        ({"instruments": ["piano", " "]}, {}, "music.instruments[1]: must not be empty"),
        ({"instruments": ["theremin"]}, {}, "music.instruments[0]: must be an instrument of General MIDI"),
        ({"instruments": ["p" * 65]}, {}, "music.instruments[0]: must have at most 64 characters"),
        ({}, {"prompt": "jazz"}, "music: must ask for tempo, key, meter or instruments"),
        (WALTZ, {"prompt": "a" * 1990}, "prompt: must have at most 2000 characters with what music adds, which makes"),
        (WALTZ, {"prompt": "a" * 2001}, "prompt: must have at most 2000 characters, got 2001"),
    ],
)
@pytest.mark.parametrize("model", ["", "nobody"])
def test_music_beyond_a_bound_is_refused_by_name(
    served: Served, music: dict[str, Any], fields: dict[str, Any], said: str, model: str
) -> None:
    code, details = refusal(lambda: served.stub.Generate(request(music, model=model, **fields)))

    assert (code, said in details) == (grpc.StatusCode.INVALID_ARGUMENT, True), details


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a waltz at 120 BPM", "prompt: says '120 BPM', and music.tempo_bpm asks for 97 BPM"),
        ("in C major", "prompt: says 'C major', and music.key asks for F# minor"),
        ("in 4/4", "prompt: says '4/4', and music.meter asks for 3/4"),
        ("without drums", "prompt: says 'no drums', and music.instruments asks for Piano, drums"),
    ],
)
def test_a_prompt_that_says_otherwise_is_refused_with_both(served: Served, prompt: str, said: str) -> None:
    code, details = refusal(lambda: served.stub.Generate(request(WALTZ, prompt=prompt)))

    assert (code, said in details) == (grpc.StatusCode.INVALID_ARGUMENT, True), details


def test_all_that_is_wrong_is_named_at_once(served: Served) -> None:
    wrong = {"tempo_bpm": 1.0, "key": "x", "meter": "y", "bars": -1, "instruments": ["z"]}
    _, details = refusal(lambda: served.stub.Generate(request(wrong, steps=0)))

    assert all(f"music.{name}" in details for name in ("tempo_bpm", "key", "meter", "bars", "instruments"))
    assert "steps" in details


def test_the_completed_prompt_is_told_and_names_the_audio(served: Served) -> None:
    typed = served.stub.Generate(request(WALTZ, prompt="calm jazz", seconds_total=1.0))
    said = "calm jazz, in F# minor, at 97 BPM, with piano and drums, in 3/4 time"
    plain = served.stub.Generate(pb.GenerateRequest(prompt=said, seconds_total=1.0, steps=2, seed=7))

    assert typed.prompt == said
    assert (plain.action.reused, plain.audio) == (True, typed.audio)
    assert typed.music == pb.MusicFields(**{**WALTZ, "key": "F# minor"})
    assert not plain.HasField("music")


def test_music_alone_is_a_prompt(served: Served) -> None:
    response = served.stub.Generate(request({"instruments": ["drums"]}, seconds_total=1.0))

    assert response.prompt == "A piece with drums."


@pytest.mark.parametrize(
    ("meter", "bars", "tempo_bpm", "beats"), [("3/4", 1, 97.0, 3), ("6/8", 2, 143.5, 4), ("7/8", 1, 111.1, 3.5)]
)
def test_the_length_is_that_of_the_bars_to_the_sample(
    served: Served, meter: str, bars: int, tempo_bpm: float, beats: float
) -> None:
    response = served.stub.Generate(request({"tempo_bpm": tempo_bpm, "meter": meter, "bars": bars}))

    exact = Fraction(beats) * 60 / Fraction(tempo_bpm) * response.sample_rate_hz
    assert abs(response.samples - exact) <= Fraction(1, 2)


def test_bars_beyond_the_window_are_refused_with_how_many_there_may_be(served: Served, model_files: ModelFiles) -> None:
    window_s = served.stub.ListModels(pb.ListModelsRequest(name="tiny")).models[0].window_s
    most = int(window_s)  # bars of a second
    fits, beyond = ({"tempo_bpm": 240.0, "meter": "4/4", "bars": bars} for bars in (most, most + 1))
    code, details = refusal(lambda: served.stub.Generate(request(beyond)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert f"at most {most} bars of 1 s; got {most + 1}, which last {most + 1} s" in details
    assert served.stub.Generate(request(fits)).samples == most * model_files.configuration.sample_rate_hz


def test_seeds_share_the_completed_prompt(served: Served) -> None:
    together = served.stub.Generate(
        pb.GenerateRequest(music=pb.MusicFields(key="C major"), seeds=[1, 2], steps=2, seconds_total=1.0)
    )
    alone = served.stub.Generate(pb.GenerateRequest(prompt=together.prompt, seed=2, steps=2, seconds_total=1.0))

    assert (alone.action.reused, alone.audio) == (True, together.others[0].audio)
