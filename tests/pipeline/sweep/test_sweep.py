"""luthier sweep: an evaluation for each setting, and a page that compares them."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from google.rpc.status_pb2 import Status

from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_FAILED,
    EVALUATION_STATE_QUEUED,
    EVALUATION_STATE_SUCCEEDED,
    CreateEvaluationRequest,
    CreateEvaluationResponse,
    EvaluatedModel,
    Evaluation,
    EvaluationPlan,
    EvaluationResults,
    RowResult,
    Score,
    Suite,
    SuiteRow,
    WatchEvaluationRequest,
    WatchEvaluationResponse,
)
from luthier_kit.registry import ModelVersion, register
from luthier_kit.store import Store
from tests.pipeline.fakes import FakeClients, Stub, luthier


@pytest.fixture
def store(store: Store) -> Store:
    weights = store.blobs.put_bytes("checkpoints", b"weights", "safetensors", "application/octet-stream")
    told = store.blobs.put_bytes("configurations", b"{}", "json", "application/json")
    register(store, ModelVersion("tuned", weights, told, created_by="test", reason="test"))
    return store


class Evaluations(Stub):
    """An evaluation service: Accuracy 2 is steps / 100, a row takes steps / 10 seconds; `heun` fails."""

    def __init__(self, store: Store) -> None:
        super().__init__(CreateEvaluation=self.create, WatchEvaluation=self.watch)
        self.store = store
        self.requests_by_id: dict[str, CreateEvaluationRequest] = {}

    def create(self, request: CreateEvaluationRequest) -> CreateEvaluationResponse:
        self.requests_by_id[f"evaluation-{request.request_id}"] = request
        evaluation_id = f"evaluation-{request.request_id}"
        return CreateEvaluationResponse(
            evaluation=Evaluation(evaluation_id=evaluation_id, state=EVALUATION_STATE_QUEUED)
        )

    def watch(self, asked: WatchEvaluationRequest) -> Any:
        request = self.requests_by_id[asked.evaluation_id]
        ended = Evaluation(evaluation_id=asked.evaluation_id, state=EVALUATION_STATE_SUCCEEDED)
        if request.sampler == "heun":
            ended.state = EVALUATION_STATE_FAILED
            ended.error.CopyFrom(Status(code=9, message="every row of tuned@1 failed: no sampler 'heun'"))
        else:
            ended.results.CopyFrom(self.store.put("evaluations", results(request)))
        yield WatchEvaluationResponse(evaluation=ended)


def results(request: CreateEvaluationRequest) -> EvaluationResults:
    steps = request.steps or 50
    share = steps / 100
    return EvaluationResults(
        plan=EvaluationPlan(
            suite=Suite(name="quick", rows=[SuiteRow(prompt="p")] * 2), models=[EvaluatedModel(model="tuned@1")]
        ),
        suite_sha256="ab12",
        machine="two cores",
        scores=[
            Score(metric="tempo_accuracy_2", model="tuned@1", value=share, n=2, low=share - 0.1, high=share + 0.1),
            Score(metric="key_exact", model="tuned@1"),  # not computed
        ],
        rows=[
            RowResult(row=row, steps=steps, sampler=request.sampler or "own", guidance_scale=7, compute_s=seconds)
            for row, seconds in enumerate((steps / 10 - 1, steps / 10 + 1))
        ],
    )


def sweep(store: Store, line: str) -> tuple[Any, Evaluations]:
    service = Evaluations(store)
    return luthier(f"sweep --model tuned --as ann {line}", FakeClients(store, evaluation=service)), service


def asked(service: Evaluations) -> list[tuple[int, str, float | None]]:
    return [
        (request.steps, request.sampler, request.guidance_scale if request.HasField("guidance_scale") else None)
        for request in service.requests("CreateEvaluation")
    ]


def test_every_combination_is_an_evaluation_of_the_version_of_now(store: Store, tmp_path: Path) -> None:
    report = tmp_path / "out/sweep.html"
    done, service = sweep(store, f"--steps 8,100 --samplers a,b --guidance 1,3.5 --report {report} --json")

    assert asked(service) == [
        (steps, sampler, scale) for steps in (8, 100) for sampler in ("a", "b") for scale in (1.0, 3.5)
    ]
    assert {request.candidate_model for request in service.requests("CreateEvaluation")} == {"tuned@1"}
    first = done.document["settings"][0]
    assert (first["steps"], first["sampler"], first["scores"]["tempo_accuracy_2"]["value"]) == (8, "a", 0.08)
    assert first["compute_s"]["mean"] == pytest.approx(0.8)
    assert first["compute_s"]["n"] == 2
    assert "key_exact" not in first["scores"]


def test_the_same_arguments_are_the_same_evaluations(store: Store, tmp_path: Path) -> None:
    line = f"--steps 8,25 --report {tmp_path / 'a.html'}"
    ids = [[request.request_id for request in sweep(store, line)[1].requests("CreateEvaluation")] for _ in range(2)]

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_the_page_draws_scores_and_seconds_against_steps(store: Store, tmp_path: Path) -> None:
    report = tmp_path / "sweep.html"
    done, _ = sweep(store, f"--steps 25,8,100 --samplers a,b --report {report}")

    page = report.read_text()
    heights, seconds = "8 0.08, 25 0.25, 100 1", "8 0.8, 25 2.5, 100 10"
    alts = re.findall(r'alt="([^"]*)"', page)
    assert alts == [
        f"Tempo, Accuracy 2 by denoising steps. a: {heights}; b: {heights}",
        f"Seconds of denoising and decoding a row by denoising steps. a: {seconds}; b: {seconds}",
    ]
    picture = base64.b64decode(re.findall(r"base64,([^\"]*)", page)[0]).decode()
    assert "<svg" in picture
    for text in ("6 settings", "0.150 to 0.350", "suite “quick”, 2 rows", "two cores"):
        assert text in page
    assert "http" not in page.replace("http-equiv", "")
    assert "25     a" in done.out
    assert done.out.splitlines()[-1] == f"report {report}"


def test_samplers_alone_are_compared_side_by_side(store: Store, tmp_path: Path) -> None:
    report = tmp_path / "sweep.html"
    sweep(store, f"--samplers euler,'<b>' --report {report}")

    page = report.read_text()
    assert "Tempo, Accuracy 2 by sampler. euler 0.5, &lt;b&gt; 0.5" in page
    assert "<b>" not in page


def test_a_setting_that_fails_is_told_and_the_others_are_shown(store: Store, tmp_path: Path) -> None:
    report = tmp_path / "sweep.html"
    done, _ = sweep(store, f"--samplers a,heun --report {report} --json")

    assert done.code == 0
    errors = [setting["error"] for setting in done.document["settings"]]
    assert errors == ["", "every row of tuned@1 failed: no sampler 'heun'"]
    assert "no scores: every row of tuned@1 failed" in report.read_text()


def test_where_all_fail_the_command_fails(store: Store, tmp_path: Path) -> None:
    done, _ = sweep(store, f"--steps 1,2 --samplers heun --report {tmp_path / 'no.html'}")

    assert done.code == 1
    assert "no sampler 'heun'" in done.err
    assert not (tmp_path / "no.html").exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "name at least two settings"),
        ("--steps 8", "name at least two settings"),
        ("--steps 8,x", "--steps must be a whole number from 1 to 1000, several between commas, got 'x'"),
        ("--steps 8,0", "--steps must be a whole number from 1 to 1000"),
        ("--guidance 1,nan", "--guidance must be a number from 0 to 50"),
        ("--samplers a,,b", "--samplers must be a name of at most 64 characters"),
        (f"--steps {','.join(map(str, range(1, 66)))}", "at most 64 settings, 65 are named"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_begins(store: Store, line: str, told: str) -> None:
    done, service = sweep(store, line)

    assert (done.code, service.asked) == (2, [])
    assert told in done.err
