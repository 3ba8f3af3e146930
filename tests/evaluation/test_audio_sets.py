"""Sets of audio in place of models: files of known tempo and key, measured over real gRPC as a model's output is."""

import io
from typing import Any

import pytest
import soundfile
from conftest import Platform
from loopback import RATE, Music, samples

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_kit.rpc import FailedPrecondition, InvalidRequest
from luthier_kit.store import Store
from luthier_music.keys import parse_key

pytestmark = pytest.mark.usefixtures("undrawn")

TEMPI = (100, 110, 120)
SECONDS = 3.0


def stored(store: Store, music: Music, seconds: float = SECONDS) -> ArtifactRef:
    out = io.BytesIO()
    soundfile.write(out, samples(music, seconds), RATE, format="FLAC")
    return store.blobs.put_bytes("audio", out.getvalue(), "flac", "audio/flac")


def audio_set(store: Store, name: str, *audio: ArtifactRef) -> ArtifactRef:
    items = [pb.AudioItem(audio=one, name=f"{index}.flac") for index, one in enumerate(audio)]
    return store.put("audio-sets", pb.AudioSet(name=name, items=items))


def right(store: Store) -> ArtifactRef:
    """Audio at the tempi that the suite asks for."""
    return audio_set(store, "truth", *(stored(store, Music(tempo, parse_key("A minor"))) for tempo in TEMPI))


def suite(**more: Any) -> pb.Suite:
    rows = [pb.SuiteRow(prompt=f"A waltz, at {bpm} BPM.", seconds_total=SECONDS, seed=9000 + row, tempo_bpm=bpm, **more)
            for row, bpm in enumerate(TEMPI)]  # fmt: skip
    return pb.Suite(name="waltzes", rows=rows)


def given(platform: Platform, **fields: Any) -> dict[str, Any]:
    """A request for a set without any model."""
    return {
        "candidate_model": None, "baseline_model": None, "suite_name": None, "seconds_total": None, "suite": suite(),
        "candidate_audio": right(platform.store), **fields,
    }  # fmt: skip


def scores(evaluation: pb.Evaluation, model: str) -> dict[str, pb.Score]:
    return {score.metric: score for score in evaluation.scores if score.model == model}


def test_files_are_measured_as_a_models_output_and_nothing_is_generated(platform: Platform) -> None:
    evaluation = platform.done(**given(platform))

    found = scores(evaluation, "audio:truth")
    assert (evaluation.state, evaluation.candidate) == (pb.EVALUATION_STATE_SUCCEEDED, "audio:truth")
    assert evaluation.candidate_digest == f"sha256:{evaluation.request.candidate_audio.sha256}"
    assert (found["tempo_accuracy_1"].value, found["tempo_accuracy_1"].n) == (1, 3)
    assert found["length_error_s"].value == 0
    assert platform.inference.calls == []


def test_a_set_is_compared_with_another_one_by_row(platform: Platform) -> None:
    always_120 = audio_set(platform.store, "metronome", *[stored(platform.store, Music())] * 3)

    evaluation = platform.done(**given(platform, baseline_audio=always_120))

    assert scores(evaluation, "audio:metronome")["tempo_accuracy_1"].value == pytest.approx(1 / 3)
    difference = scores(evaluation, "audio:truth - audio:metronome")["tempo_accuracy_1"]
    assert difference.value == pytest.approx(2 / 3)
    assert difference.n == 3


@pytest.mark.usefixtures("pages")
def test_a_model_and_a_set_stand_beside_each_other(platform: Platform) -> None:
    evaluation = platform.done(
        **given(platform, candidate_model="tuned", candidate_audio=None, baseline_audio=right(platform.store))
    )

    assert sorted(platform.inference.calls) == [("tuned@1", row) for row in range(3)]
    assert evaluation.baseline == "audio:truth"
    page = platform.store.blobs.read(evaluation.report).decode()
    assert "audio:truth is a set of files that were there" in page
    assert "8 steps" in page


@pytest.mark.usefixtures("pages")
def test_the_page_of_sets_alone_speaks_of_no_generation(platform: Platform) -> None:
    page = platform.store.blobs.read(platform.done(**given(platform)).report).decode()

    assert "steps, guidance" not in page
    assert page.count("<audio controls") == 3


def test_a_file_that_is_longer_than_its_row_says_has_a_length_error(platform: Platform) -> None:
    longer = audio_set(platform.store, "long", *[stored(platform.store, Music(), SECONDS + 0.25)] * 3)

    evaluation = platform.done(**given(platform, candidate_audio=longer))

    assert scores(evaluation, "audio:long")["length_error_s"].value == pytest.approx(0.25)


def test_no_set_of_audio_supports_a_promotion(platform: Platform) -> None:
    evaluation = platform.done(**given(platform))

    with pytest.raises(FailedPrecondition, match="measured audio:truth, a set of audio: it is no model"):
        platform.promote(evaluation_id=evaluation.evaluation_id)


def test_a_model_that_was_compared_with_a_set_was_not_compared_with_the_current_version(platform: Platform) -> None:
    platform.promote(model="base", force=True)
    evaluation = platform.done(
        **given(platform, candidate_model="tuned", candidate_audio=None, baseline_audio=right(platform.store))
    )

    clauses = platform.promote(evaluation_id=evaluation.evaluation_id, check_only=True).clauses

    told = {clause.name: (clause.holds, clause.figure) for clause in clauses}
    assert told["baseline"][0] is False
    assert "it was compared with audio:truth" in told["baseline"][1]


@pytest.mark.usefixtures("pages")
def test_the_tempo_estimator_is_asked_of_analysis_and_shown(platform: Platform) -> None:
    evaluation = platform.done(**given(platform, tempo_estimator="deeprhythm"))

    results = platform.store.get(pb.EvaluationResults, evaluation.results)
    assert list(results.tempo_estimators) == ["deeprhythm/test"]
    assert "asked for deeprhythm" in platform.store.blobs.read(evaluation.report).decode()


def test_a_tempo_estimator_that_analysis_does_not_have_ends_the_evaluation_with_its_words(platform: Platform) -> None:
    evaluation = platform.done(**given(platform, tempo_estimator="tapping"))

    assert evaluation.state == pb.EVALUATION_STATE_FAILED
    assert "tempo_estimator: must be one of clicks, deeprhythm, got 'tapping'" in evaluation.error.message


def test_rows_whose_file_is_no_audio_fail_alone(platform: Platform) -> None:
    broken = platform.store.blobs.put_bytes("audio", b"no audio", "flac", "audio/flac")
    whole = [stored(platform.store, Music(tempo)) for tempo in TEMPI[:2]]

    evaluation = platform.done(**given(platform, candidate_audio=audio_set(platform.store, "mixed", *whole, broken)))

    assert (evaluation.state, evaluation.failed_rows) == (pb.EVALUATION_STATE_SUCCEEDED, 1)


def test_suites_that_differ_in_what_prompts_state_have_other_digests(platform: Platform) -> None:
    plain = platform.create("a", **given(platform))
    named = platform.create("b", **given(platform, suite=suite(genres=["polka"])))
    heard = platform.create("c", **given(platform, suite=suite(reference=stored(platform.store, Music()))))

    assert len({plain.suite_sha256, named.suite_sha256, heard.suite_sha256}) == 3


def ill_formed() -> pb.AudioItem:
    return pb.AudioItem(audio=ArtifactRef(key="somewhere/else", sha256="0" * 64))


@pytest.mark.parametrize(
    ("fields", "field", "bound"),
    [
        ({"candidate_model": "tuned"}, "candidate_model", "must be empty where candidate_audio is given"),
        ({"candidate_audio": None}, "candidate_model", "must not be empty"),
        ({"items": 2}, "candidate_audio.items", "must be 3, one for each row of the suite, got 2"),
        ({"items": 0}, "candidate_audio.items", "must have 1 to 5000 items, got 0"),
        ({"items": 5001}, "candidate_audio.items", "must have 1 to 5000 items, got 5001"),
        ({"items": [ill_formed()]}, "candidate_audio.items[0].audio.key", "must be <kind>/<sha256>.<ext>"),
        ({"name": " "}, "candidate_audio.name", "must not be empty"),
        ({"name": "two\nlines"}, "candidate_audio.name", "must have no characters that do not print"),
        ({"baseline_audio": "same"}, "baseline_audio", "must be another version than candidate_model"),
        ({"baseline_audio": "namesake"}, "baseline_audio", "must have another name than candidate_audio"),
        ({"reference_audio": "empty"}, "reference_audio.items", "must have 1 to 50000 items, got 0"),
        ({"aligned": True}, "aligned", "needs a reference for every row: 3 have none, the first is row 0"),
        ({"suite": suite(genres=["x"] * 17)}, "suite.rows[0].genres", "must have 0 to 16 items, got 17"),
        ({"suite": suite(instruments=[""])}, "suite.rows[0].instruments[0]", "must not be empty"),
        ({"suite": suite(reference=ArtifactRef(key="x"))}, "suite.rows[0].reference.key", "must be <kind>/<sha256>"),
    ],
)  # fmt: skip
def test_what_breaks_a_bound_is_named(platform: Platform, fields: dict[str, Any], field: str, bound: str) -> None:
    store, audio = platform.store, stored(platform.store, Music())
    items, name = fields.get("items", 3), fields.get("name", "set")
    listed = [pb.AudioItem(audio=audio)] * items if isinstance(items, int) else items
    one = store.put("audio-sets", pb.AudioSet(name=name, items=listed))
    sets = {"same": one, "namesake": audio_set(store, "set", *[audio] * 3), "empty": audio_set(store, "none")}
    request = {
        "candidate_audio": one,
        **{key: sets.get(str(value), value) for key, value in fields.items() if key not in ("items", "name")},
    }

    with pytest.raises(InvalidRequest) as error:
        platform.create(**given(platform, **request))

    assert any(name == field and bound in text for name, text in error.value.violations), error.value.violations


def test_an_artifact_that_is_no_set_is_refused(platform: Platform) -> None:
    with pytest.raises(InvalidRequest) as error:
        platform.create(**given(platform, candidate_audio=stored(platform.store, Music())))

    assert error.value.reason == "AUDIO_SET_INVALID"
