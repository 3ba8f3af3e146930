"""Music in typed fields from the command line to the real analysis service and back."""

import pytest

from luthier.analysis.v1.analysis_pb2 import FEATURE_KEY, FEATURE_TEMPO, AnalyzeAudioRequest
from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub
from luthier.common.v1.common_pb2 import MODE_MINOR, ArtifactRef
from tests.conftest import Answer
from tests.system import System

TEMPO_BPM, BARS, BEATS = 120, 2, 4
OPTIONS = (
    "--tempo",
    str(TEMPO_BPM),
    "--key",
    "A minor",
    "--meter",
    "4/4",
    "--bars",
    str(BARS),
    "--instrument",
    "piano",
)


@pytest.fixture(scope="module")
def typed(system: System, base: Answer) -> Answer:
    """Two tries: no model of eight steps keeps a key and a tempo but by chance."""
    more = ("--steps", "2", "--seed", "5", "--best-of", "2", "--model", base["model"])
    return system.luthier("generate", "calm", *OPTIONS, *more, "--out", str(system.folder / "typed.flac"))


def test_bars_are_the_length_and_the_prompt_is_completed(typed: Answer) -> None:
    assert typed["prompt"] == "calm, in A minor, at 120 BPM, with piano, in 4/4 time"
    assert int(typed["samples"]) == BARS * BEATS * 60 * typed["sample_rate_hz"] // TEMPO_BPM


def test_what_is_heard_is_what_analysis_says_of_the_audio(system: System, typed: Answer) -> None:
    audio = typed["audio"]
    ref = ArtifactRef(
        bucket=audio["bucket"], key=audio["key"], sha256=audio["sha256"], size_bytes=int(audio["size_bytes"])
    )
    analysis = AnalysisServiceStub(system.channel("analysis"))
    said = analysis.AnalyzeAudio(AnalyzeAudioRequest(audio=ref, features=[FEATURE_TEMPO, FEATURE_KEY]))

    heard = {one["field"]: one for one in typed["heard"]}
    mode = "minor" if said.key.mode == MODE_MINOR else "major"
    key, tempo_bpm = f"{said.key.tonic} {mode}" if said.key.tonic else "", said.tempo.tempo_bpm
    assert heard["key"].get("heard", "") == key
    assert heard["key"]["obeyed"] == (key == "A minor")
    assert heard["key"]["estimator"] == said.key.estimator
    assert heard["tempo_bpm"].get("heard", "") == (f"{tempo_bpm:.4g} BPM" if tempo_bpm else "")
    assert heard["tempo_bpm"]["obeyed"] == (abs(tempo_bpm / TEMPO_BPM - 1) <= 0.02)
    assert all("obeyed" not in heard[field] for field in ("meter", "bars", "instruments"))


def test_tries_go_on_until_one_is_as_asked(typed: Answer) -> None:
    obeyed = [
        all(one["obeyed"] for one in each["heard"] if one["field"] in ("tempo_bpm", "key")) for each in typed["tries"]
    ]

    assert typed["tries"][0]["seed"] == "5"
    assert obeyed in ([True], [False, True], [False, False])
    assert sum(each.get("chosen", False) for each in typed["tries"]) == 1
