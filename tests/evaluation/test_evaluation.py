"""An evaluation over real gRPC, with music of known tempo and key: the scores that must come out are known."""

import json
import re
import threading
import time
from dataclasses import replace
from typing import Any

import grpc
import pytest
from conftest import Platform, add_model
from loopback import Music, follows_prompt, ignores_prompt

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier.inference.v1.inference_pb2 import GenerateRequest
from luthier_evaluation.service import service
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.registry import ModelVersion, register
from luthier_kit.rpc import Channel, FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.store import Store
from luthier_model.tiny import configuration
from tests.support.services import running

pytestmark = pytest.mark.usefixtures("undrawn")

SUCCEEDED = pb.EVALUATION_STATE_SUCCEEDED


def scores(evaluation: pb.Evaluation, model: str) -> dict[str, pb.Score]:
    return {score.metric: score for score in evaluation.scores if score.model == model}


def test_a_model_that_follows_prompts_scores_one_and_one_that_ignores_them_by_chance(
    platform: Platform,
) -> None:
    evaluation = platform.done()

    assert evaluation.state == SUCCEEDED
    assert (evaluation.done, evaluation.total, evaluation.failed_rows) == (16, 16, 0)
    tuned, base = scores(evaluation, "tuned@1"), scores(evaluation, "base@1")
    # The quick suite asks for 90 120 84 112 140 100 96 128 BPM; a model that always makes 120 hits one of eight, and
    # none of the others is 2, 3, 1/2 or 1/3 of it.
    assert {name: tuned[name].value for name in ("tempo_accuracy_1", "tempo_accuracy_2")} == {
        "tempo_accuracy_1": 1,
        "tempo_accuracy_2": 1,
    }
    assert base["tempo_accuracy_1"].value == pytest.approx(1 / 8)
    assert base["tempo_accuracy_2"].value == pytest.approx(1 / 8)
    # Keys E- F+ C- C+ A+ Bb+ F#- G-; C major is exact once, a fifth above F major (0.5), parallel to C minor (0.2).
    assert tuned["key_exact"].value == 1
    assert base["key_exact"].value == pytest.approx(1 / 8)
    assert base["key_mirex"].value == pytest.approx((1 + 0.5 + 0.2) / 8)
    assert tuned["loudness_lufs"].value == pytest.approx(-20)
    assert tuned["length_error_s"].value == 0


def test_chance_is_what_the_same_music_scores_for_other_prompts(platform: Platform) -> None:
    evaluation = platform.done()

    tuned, base = scores(evaluation, "tuned@1"), scores(evaluation, "base@1")
    # Eight different tempi: music as asked never fits another row; always 120 fits one of eight rows.
    assert tuned["tempo_accuracy_1"].chance == 0
    assert base["tempo_accuracy_1"].chance == pytest.approx(1 / 8)
    assert base["key_exact"].chance == pytest.approx(1 / 8)
    assert not tuned["loudness_lufs"].HasField("chance")


def test_the_difference_is_paired_and_beyond_chance(platform: Platform) -> None:
    difference = scores(platform.done(), "tuned@1 - base@1")["tempo_accuracy_1"]

    assert difference.value == pytest.approx(7 / 8)
    assert difference.n == 8
    assert 0.5 < difference.low < difference.value <= difference.high == 1


def test_both_models_are_asked_the_same_rows(platform: Platform) -> None:
    platform.done()

    asked = sorted(platform.inference.calls)
    assert asked == [("base@1", row) for row in range(8)] + [("tuned@1", row) for row in range(8)]


def test_published_metrics_are_listed_as_not_computed_with_the_reason(platform: Platform) -> None:
    found = scores(platform.done(), "tuned@1")

    for name in ("fd_openl3", "kl_passt", "clap_score"):
        assert not found[name].HasField("value")
        assert "not computed" in found[name].note
        assert "weights" in found[name].note


def test_without_a_baseline_one_model_is_measured(platform: Platform) -> None:
    evaluation = platform.done(baseline_model=None)

    assert {score.model for score in evaluation.scores} == {"tuned@1"}
    assert evaluation.total == 8


def test_rows_that_fail_are_counted_and_left_out_of_the_scores(platform: Platform) -> None:
    platform.inference.refuse = lambda model, row: model == "tuned@1" and row in (0, 1)

    evaluation = platform.done()

    assert evaluation.state == SUCCEEDED
    assert evaluation.failed_rows == 2
    assert scores(evaluation, "tuned@1")["tempo_accuracy_1"].n == 6
    assert scores(evaluation, "tuned@1 - base@1")["tempo_accuracy_1"].n == 6
    results = platform.store.get(pb.EvaluationResults, evaluation.results)
    errors = [row.error.message for row in results.rows if row.HasField("error")]
    assert errors == ["seconds_total: must be between 0.1 and 5.9, got 10"] * 2


def test_an_evaluation_in_which_every_row_of_a_model_fails_says_why(platform: Platform) -> None:
    platform.inference.refuse = lambda model, row: model == "tuned@1"

    evaluation = platform.done()

    assert evaluation.state == pb.EVALUATION_STATE_FAILED
    assert "every row of tuned@1 failed" in evaluation.error.message
    assert "must be between 0.1 and 5.9" in evaluation.error.message


def test_silence_has_no_loudness_and_counts_as_wrong(platform: Platform) -> None:
    platform.inference.makes["tuned"] = lambda request, row: Music(tempo_bpm=None, key=None)

    found = scores(platform.done(), "tuned@1")

    assert found["silent"].value == 1
    assert found["tempo_accuracy_1"].value == 0
    assert found["key_mirex"].value == 0
    assert not found["loudness_lufs"].HasField("value")


def test_music_longer_than_asked_for_shows_in_the_length_error(platform: Platform) -> None:
    platform.inference.makes["tuned"] = lambda request, row: Music(extra_s=0.5)

    assert scores(platform.done(), "tuned@1")["length_error_s"].value == pytest.approx(0.5)


def test_a_repeated_request_is_the_same_evaluation_even_after_a_new_version(platform: Platform) -> None:
    first = platform.done()
    add_model(platform.store, "tuned", "other weights")

    again = platform.create()

    assert again.evaluation_id == first.evaluation_id
    assert again.candidate == "tuned@1"
    assert len(platform.inference.calls) == 16


def test_a_request_id_that_began_another_evaluation_is_refused(platform: Platform) -> None:
    platform.done()

    with pytest.raises(FailedPrecondition, match="began another") as error:
        platform.create(seconds_total=5.0)
    assert error.value.reason == "REQUEST_ID_REUSED"


def test_a_restarted_service_goes_on_where_the_last_one_was(platform: Platform) -> None:
    platform.inference.hold = threading.Event()
    evaluation_id = ""
    with running(service(platform.store, platform.settings), platform.settings) as address:
        channel = Channel(address)
        client = EvaluationServiceStub(channel)
        request = pb.CreateEvaluationRequest(request_id="r2", candidate_model="tuned", suite_name="quick")
        evaluation_id = client.CreateEvaluation(request).evaluation.evaluation_id
        channel.close()
        time.sleep(0.3)
    platform.inference.hold.set()

    evaluation = platform.wait(evaluation_id)

    assert evaluation.state == SUCCEEDED
    assert evaluation.done == 8


def test_a_cancelled_evaluation_stops(platform: Platform) -> None:
    platform.inference.hold = threading.Event()
    created = platform.create()
    time.sleep(0.3)

    request = pb.CancelEvaluationRequest(evaluation_id=created.evaluation_id, reason="wrong suite")
    platform.evaluation.CancelEvaluation(request)
    platform.inference.hold.set()

    assert platform.wait(created.evaluation_id).state == pb.EVALUATION_STATE_CANCELLED
    assert len(platform.inference.calls) < 16


@pytest.mark.usefixtures("pages")
def test_watch_shows_progress_and_ends(platform: Platform) -> None:
    created = platform.create()

    request = pb.WatchEvaluationRequest(evaluation_id=created.evaluation_id)
    seen = [message.evaluation for message in platform.evaluation.WatchEvaluation(request, timeout=60)]

    assert [e.sequence for e in seen] == sorted({e.sequence for e in seen})
    assert seen[-1].state == SUCCEEDED
    assert seen[-1].report.media_type == "text/html"


def test_list_pages_newest_first(platform: Platform) -> None:
    ids = [platform.done(f"r{i}", max_rows=1, baseline_model=None).evaluation_id for i in range(3)]

    first = platform.evaluation.ListEvaluations(pb.ListEvaluationsRequest(page_size=2))
    request = pb.ListEvaluationsRequest(page_size=2, page_token=first.next_page_token)
    second = platform.evaluation.ListEvaluations(request)

    assert [e.evaluation_id for e in [*first.evaluations, *second.evaluations]] == ids[::-1]
    assert second.next_page_token == ""


def test_a_page_token_of_nobody_is_refused(platform: Platform) -> None:
    with pytest.raises(InvalidRequest) as error:
        platform.evaluation.ListEvaluations(pb.ListEvaluationsRequest(page_token="2"))

    assert error.value.reason == "PAGE_TOKEN_INVALID"


def test_a_suite_of_the_callers_own_is_used_as_it_is(platform: Platform) -> None:
    row = pb.SuiteRow(prompt="A waltz, at 100 BPM.", seconds_total=3, seed=9000, tempo_bpm=100)
    suite = pb.Suite(name="mine", rows=[row])

    evaluation = platform.done(suite_name=None, suite=suite, seconds_total=None)

    found = scores(evaluation, "tuned@1")
    assert found["tempo_accuracy_1"].value == 1
    assert found["key_exact"].note == "not computed: no row to which it applies"
    assert evaluation.request.suite == suite
    assert not evaluation.request.HasField("steps")


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize(("asked", "took_effect"), [(None, 1.0), (4.5, 4.5), (0.0, 0.0)])
def test_guidance_is_the_models_own_unless_it_is_asked_for(
    platform: Platform, asked: float | None, took_effect: float
) -> None:
    evaluation = platform.done(guidance_scale=asked, max_rows=2)

    results = platform.store.get(pb.EvaluationResults, evaluation.results)
    assert {row.guidance_scale for row in results.rows} == {took_effect}
    assert evaluation.request.HasField("guidance_scale") == (asked is not None)
    assert evaluation.request.guidance_scale == (asked or 0)
    page = platform.store.blobs.read(evaluation.report).decode()
    own = "1 (base@1&#39;s own), 1 (tuned@1&#39;s own)"
    assert f"guidance {own if asked is None else f'{asked:g}'}," in page


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize(("asked", "took_effect"), [(None, 8), (25, 25)])
def test_steps_are_the_models_own_unless_they_are_asked_for(
    platform: Platform, asked: int | None, took_effect: int
) -> None:
    evaluation = platform.done(steps=asked, max_rows=2)

    assert {request.HasField("steps") for request in platform.inference.requests} == {asked is not None}
    results = platform.store.get(pb.EvaluationResults, evaluation.results)
    assert {(row.steps, row.sampler, row.compute_s) for row in results.rows} == {(took_effect, "own", 0.25)}
    assert evaluation.request.steps == (asked or 0)
    page = platform.store.blobs.read(evaluation.report).decode()
    assert ("25 steps, guidance" if asked else "8 steps (base@1&#39;s own), 8 steps (tuned@1&#39;s own)") in page


@pytest.mark.usefixtures("pages")
def test_untrimmed_audio_is_measured_to_its_end_and_its_music_within_the_length_asked_for(platform: Platform) -> None:
    def goes_on(request: GenerateRequest, row: int) -> Music:
        return replace(follows_prompt(request, row), extra_s=2.0)

    platform.inference.makes = {"base": follows_prompt, "tuned": goes_on}

    evaluation = platform.done(measure_end=True)

    assert {request.untrimmed for request in platform.inference.requests} == {True}
    base, tuned = scores(evaluation, "base@1"), scores(evaluation, "tuned@1")
    assert base["length_error_untrimmed_s"].value == pytest.approx(0, abs=0.011)
    assert tuned["length_error_untrimmed_s"].value == pytest.approx(2.0, abs=0.011)
    assert tuned["length_bias_untrimmed_s"].value == pytest.approx(2.0, abs=0.011)
    assert tuned["length_error_s"].value == 0
    assert tuned["tempo_accuracy_1"].value == 1
    rows = platform.store.get(pb.EvaluationResults, evaluation.results).rows
    assert {row.untrimmed_s for row in rows} == {12.0}  # the window
    page = platform.store.blobs.read(evaluation.report).decode()
    assert 'aria-label="Length asked for against the end of the sound"' in page


def test_a_silent_window_has_no_end(platform: Platform) -> None:
    platform.inference.makes["tuned"] = lambda request, row: Music(tempo_bpm=None, key=None)

    evaluation = platform.done(measure_end=True, max_rows=2)

    score = scores(evaluation, "tuned@1")["length_error_untrimmed_s"]
    assert (score.HasField("value"), score.note) == (False, "not computed: no row to which it applies")
    assert scores(evaluation, "tuned@1")["silent"].value == 1


def test_the_length_suite_is_of_the_window_of_the_models(platform: Platform) -> None:
    tiny = configuration()
    window_s = tiny.window_s
    weights = platform.store.blobs.put_bytes("checkpoints", b"w", "safetensors", "application/octet-stream")
    told = platform.store.blobs.put_bytes(
        "configurations", json.dumps(tiny.document).encode(), "json", "application/json"
    )
    register(platform.store, ModelVersion("tuned", weights, told, created_by="test", reason="test"))
    platform.inference.window_s = window_s
    platform.inference.makes["tuned"] = ignores_prompt

    evaluation = platform.done(suite_name="paper-length", baseline_model=None, seconds_total=None, max_rows=8)

    requests = platform.inference.requests
    assert {request.untrimmed for request in requests} == {True}
    lengths = sorted({request.seconds_total for request in requests})  # of the first eight rows, 3 and 9 of 95 s
    assert lengths == [window_s * 3 // 95, window_s * 9 // 95]
    assert scores(evaluation, "tuned@2")["length_error_untrimmed_s"].n == 8


@pytest.mark.usefixtures("pages")
def test_a_second_estimator_of_tempo_is_asked_where_one_is_named(platform: Platform) -> None:
    evaluation = platform.done(beat_estimator="beatnet", baseline_model=None)

    assert scores(evaluation, "tuned@1")["tempo_second_agrees"].value == 1
    rows = platform.store.get(pb.EvaluationResults, evaluation.results).rows
    assert {row.beat_tempo.estimator for row in rows} == {"beatnet/1/beat-line"}
    assert "Second opinion: beatnet/1/beat-line" in platform.store.blobs.read(evaluation.report).decode()


@pytest.mark.usefixtures("pages")
def test_long_rows_have_their_structure_drawn_with_the_sections_found(platform: Platform) -> None:
    row = pb.SuiteRow(prompt="A rock song at 100 BPM.", seconds_total=30, seed=9000, tempo_bpm=100)
    short = pb.SuiteRow(prompt="A rock song at 100 BPM.", seconds_total=10, seed=9001, tempo_bpm=100)
    suite = pb.Suite(name="mine", rows=[row, short])

    evaluation = platform.done(suite_name=None, suite=suite, seconds_total=None, baseline_model=None)

    page = platform.store.blobs.read(evaluation.report).decode()
    assert re.findall(r'aria-label="(Self-similarity[^"]*)"', page) == [
        "Self-similarity of tuned@1, row 0, over 30 s; sections A B"
    ]


@pytest.mark.parametrize(
    ("fields", "field", "bound"),
    [
        ({"beat_estimator": "madmom"}, "beat_estimator", "must be one of beatnet, essentia"),
        (
            {
                "suite_name": None,
                "suite": pb.Suite(name="x", rows=[pb.SuiteRow(prompt="a", seconds_total=1, genres=["Rock"])]),
            },
            "suite.rows[0].genres[0]",
            "must be in lower case",
        ),
        ({"request_id": ""}, "request_id", "must not be empty"),
        ({"candidate_model": ""}, "candidate_model", "must not be empty"),
        ({"suite_name": "huge"}, "suite_name", "must be one of paper-key, paper-length, paper-tempo, quick"),
        ({"steps": 0}, "steps", "must be between 1 and 1000, got 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "must be between 0 and 50, got nan"),
        ({"seconds_total": 1e9}, "seconds_total", "must be between 0.5 and 600"),
        ({"max_rows": 0}, "max_rows", "must be between 1 and 5000, got 0"),
        ({"suite": pb.Suite(name="x")}, "suite_name", "must be empty where suite is given"),
        (
            {"suite_name": None, "suite": pb.Suite(name="x", rows=[pb.SuiteRow(prompt=" ", seconds_total=1)])},
            "suite.rows[0].prompt",
            "must not be empty",
        ),
        ({"baseline_model": "tuned@1"}, "baseline_model", "must be another version than candidate_model"),
    ],
)
def test_what_breaks_a_bound_is_named(platform: Platform, fields: dict[str, Any], field: str, bound: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        platform.create(**fields)

    assert any(name == field and bound in text for name, text in error.value.violations), error.value.violations


def test_an_unknown_model_or_evaluation_is_not_found(platform: Platform) -> None:
    with pytest.raises(NotFound, match="no model 'nobody'"):
        platform.create(candidate_model="nobody")
    with pytest.raises(NotFound, match="no evaluation"):
        platform.get("training-1234")
    with pytest.raises(NotFound):
        platform.get("evaluation-1234")


def test_a_service_that_stays_down_ends_the_evaluation_and_says_so(store: Store) -> None:
    settings = EvaluationSettings(address="127.0.0.1:0", inference_address="127.0.0.1:1", retry_budget_s=0.5)
    with running(service(store, settings), settings) as address:
        channel = Channel(address)
        client = EvaluationServiceStub(channel)
        request = pb.CreateEvaluationRequest(request_id="r", candidate_model="tuned", suite_name="quick")
        created = client.CreateEvaluation(request).evaluation
        watch = pb.WatchEvaluationRequest(evaluation_id=created.evaluation_id)
        *_, last = client.WatchEvaluation(watch, timeout=60)
        channel.close()

    assert last.evaluation.state == pb.EVALUATION_STATE_FAILED
    assert "127.0.0.1:1" in last.evaluation.error.message
    assert last.evaluation.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
