"""train and evaluate: the same arguments are the same run, and a run is followed through restarts of its service."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc.status_pb2 import Status

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ADAPTER_KIND_LORA, ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_FAILED,
    EVALUATION_STATE_QUEUED,
    EVALUATION_STATE_RUNNING,
    EVALUATION_STATE_SUCCEEDED,
    CancelEvaluationResponse,
    CreateEvaluationResponse,
    Evaluation,
    Score,
    WatchEvaluationResponse,
)
from luthier.training.v1.training_pb2 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    Adapter,
    CancelTrainingRunResponse,
    CreateTrainingRunRequest,
    CreateTrainingRunResponse,
    LossPoint,
    RunState,
    TrainingRun,
    WatchTrainingRunRequest,
    WatchTrainingRunResponse,
)
from luthier_kit.registry import ModelVersion, register
from luthier_kit.rpc import InvalidRequest, NotFound, Unavailable, status_of
from luthier_kit.store import Store
from luthier_pipeline import long_runs
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier

TRAIN = "train --base base --dataset way --name tuned --steps 6 --seed 1 --as ann --json"
MANIFEST = ArtifactRef(bucket="luthier", key=f"manifests/{'d' * 64}.json", sha256="d" * 64, size_bytes=7)


Event = TrainingRun | Exception | float


def run_in(state: RunState, **more: Any) -> TrainingRun:
    return TrainingRun(run_id="training-1", state=state, **more)


DONE = run_in(
    RUN_STATE_SUCCEEDED, model="tuned@1", validation=[LossPoint(loss=1.0), LossPoint(step=6, loss=0.5)], stage="train"
)


@pytest.fixture
def store(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(long_runs, "FIRST_PAUSE_S", 0.001)
    store.series(DatasetVersion, "datasets/way").append(DatasetVersion(manifest=MANIFEST))
    return store


def trainer(*watched: list[Event], created: RunState | Callable[[str], RunState] = RUN_STATE_QUEUED) -> Stub:
    """A training service: `watched` are what each WatchTrainingRun sends, an error at the end of a broken one,
    a number for quiet seconds."""

    def create(request: CreateTrainingRunRequest) -> CreateTrainingRunResponse:
        state = created(request.request_id) if callable(created) else created
        return CreateTrainingRunResponse(run=run_in(state))

    def sending(events: list[Event]) -> Callable[[WatchTrainingRunRequest], Iterator[WatchTrainingRunResponse]]:
        def send(_request: WatchTrainingRunRequest) -> Iterator[WatchTrainingRunResponse]:
            for event in events:
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, float):
                    time.sleep(event)
                    continue
                yield WatchTrainingRunResponse(run=event)

        return send

    return Stub(CreateTrainingRun=create, WatchTrainingRun=[sending(events) for events in watched])


def train(store: Store, training: Stub, line: str = TRAIN, retry_budget_s: float = 30.0) -> Done:
    clients = FakeClients(store, training=training)
    clients.retry_budget_s = retry_budget_s
    return luthier(line, clients)


def ids(training: Stub) -> list[str]:
    return [request.request_id for request in training.requests("CreateTrainingRun")]


def test_a_run_is_followed_through_restarts_of_its_service(store: Store) -> None:
    cut = Unavailable("the service restarts", retry_after_s=0.0)
    working = run_in(RUN_STATE_RUNNING, stage="train", done=3, total=6, loss=0.75)
    training = trainer([working, cut], [cut], [working], [working, DONE])
    done = train(store, training)
    assert (done.document["run"], done.document["model"]) == ("training-1", "tuned@1")
    assert len(training.requests("WatchTrainingRun")) == 4
    assert "train 3/6" in done.err
    text = train(store, trainer([DONE]), TRAIN.removesuffix(" --json")).out
    assert text.splitlines() == [
        "model tuned@1  validation loss 1.0000 -> 0.5000",
        "next: luthier evaluate --model tuned@1 --report report.html",
    ]


def test_a_result_under_another_name_says_why(store: Store) -> None:
    ended = run_in(RUN_STATE_SUCCEEDED, model="tuned-0123456789abcdef@1")
    text = train(store, trainer([ended]), TRAIN.removesuffix(" --json")).out
    assert text.splitlines()[0] == "model tuned-0123456789abcdef@1  (tuned was promoted meanwhile)"


def test_how_often_metadata_are_drawn_reaches_the_service(store: Store) -> None:
    training = trainer([DONE])
    train(store, training, f"{TRAIN} --metadata-share 0.25")
    assert [request.fine_tune.metadata_share for request in training.requests("CreateTrainingRun")] == [0.25]


def test_an_adapter_is_asked_for_as_the_options_say(store: Store) -> None:
    training = trainer([DONE], [DONE])
    options = "--adapter dora --adapter-rank 8 --adapter-alpha 4 --adapter-dropout 0.1 --adapter-targets attention,all"
    train(store, training, f"{TRAIN} {options}")
    train(store, training, f"{TRAIN} --adapter lora")
    full, plain = (request.fine_tune.adapter for request in training.requests("CreateTrainingRun"))
    expected = {"rank": 8, "alpha": 4, "dropout": 0.1, "targets": ["attention", "all"]}
    assert full == Adapter(kind=ADAPTER_KIND_DORA, **expected)  # type: ignore[arg-type]
    assert plain == Adapter(kind=ADAPTER_KIND_LORA)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (f"{TRAIN} --adapter loha", "--adapter must be one of lora, dora, got 'loha'"),
        (f"{TRAIN} --adapter-rank 4", "--adapter-rank is of an adapter: --adapter lora or --adapter dora"),
        (f"{TRAIN} --adapter-targets all", "--adapter-targets is of an adapter"),
        ("train --tiny-base --dataset way --name b --adapter lora", "--adapter is of --base"),
    ],
)
def test_options_of_an_adapter_that_fit_nothing_are_refused(store: Store, line: str, text: str) -> None:
    done = train(store, trainer([DONE]), line)
    assert done.code == 2
    assert text in done.err


def test_a_quiet_run_is_followed_beyond_the_retry_budget(store: Store) -> None:
    queued, cut = run_in(RUN_STATE_QUEUED), Unavailable("the server ends old connections", retry_after_s=0.0)
    assert train(store, trainer([queued, 0.3, cut], [DONE]), retry_budget_s=0.2).document["model"] == "tuned@1"


def test_the_request_says_what_was_asked_and_nothing_else(store: Store) -> None:
    training = trainer([DONE])
    train(store, training)
    [request] = training.requests("CreateTrainingRun")
    assert (request.dataset, request.model_name, request.seed, request.created_by) == (MANIFEST, "tuned", 1, "ann")
    assert (request.fine_tune.base_model, request.fine_tune.steps) == ("base", 6)
    assert not request.fine_tune.HasField("batch_size")
    tiny = trainer([DONE])
    train(store, tiny, "train --tiny-base --dataset way@1 --name base")
    [request] = tiny.requests("CreateTrainingRun")
    assert request.WhichOneof("recipe") == "tiny_base"
    assert not request.HasField("seed")


def test_the_id_of_a_run_is_that_of_luthier_0_1(store: Store) -> None:
    """Else an upgrade would train again what is trained: as the code of commit 5aa81e1 gives it for this request."""
    training = trainer([DONE])
    train(store, training)
    assert ids(training) == ["7e8a6d43625bd711a5284be06ff4fd4a1c3fd824415cc2b63bc7f8878881dc32"]


def test_the_same_arguments_are_the_same_run_until_the_base_changes(store: Store) -> None:
    first, second, third = trainer([DONE]), trainer([DONE]), trainer([DONE])
    train(store, first)
    train(store, second)
    ref = store.blobs.put_bytes("checkpoints", b"weights", "safetensors")
    register(store, ModelVersion("base", ref, store.blobs.put_bytes("configurations", b"{}", "json")))
    train(store, third)
    assert ids(first) == ids(second) != ids(third)


def test_a_run_that_ended_in_vain_is_tried_again_under_a_further_id(store: Store) -> None:
    states = {"": RUN_STATE_FAILED, "2": RUN_STATE_CANCELLED, "3": RUN_STATE_QUEUED}
    training = trainer([DONE], created=lambda request_id: states[request_id.partition("-")[2]])
    train(store, training)
    digest = ids(training)[0]
    assert ids(training) == [digest, f"{digest}-2", f"{digest}-3"]


def test_a_request_that_names_its_id_is_taken_as_it_is(store: Store) -> None:
    training = trainer([DONE], created=RUN_STATE_FAILED)
    done = train(store, training, f"{TRAIN} --request-id mine")
    assert ids(training) == ["mine"]
    assert done.code == 1


def test_a_run_that_failed_says_why(store: Store) -> None:
    error = status_of(InvalidRequest("the data set has no rows", reason="DATASET_EMPTY"), "training")
    done = train(store, trainer([run_in(RUN_STATE_FAILED, error=error)]))
    assert done.document["error"] == {
        "code": "INVALID_ARGUMENT", "reason": "DATASET_EMPTY", "message": "the data set has no rows",
    }  # fmt: skip
    assert "cancelled" in train(store, trainer([run_in(RUN_STATE_CANCELLED)])).err


def test_a_service_that_stays_away_is_given_up(store: Store) -> None:
    clients = FakeClients(store, training=trainer([Unavailable("away", reason="UNREACHABLE")]))
    done = luthier(TRAIN, clients)  # with a retry budget of 0 s
    assert done.document["error"]["reason"] == "UNREACHABLE"


@pytest.mark.parametrize(
    ("line", "reason"), [("--dataset other", "DATASET_NOT_FOUND"), ("--dataset way@2", "DATASET_NOT_FOUND")]
)
def test_a_data_set_that_is_not_there_is_told_with_those_that_are(store: Store, line: str, reason: str) -> None:
    done = train(store, trainer([DONE]), f"train --base base --name tuned --json {line}")
    assert done.document["error"]["reason"] == reason
    assert "there are: way" in done.err


@pytest.mark.parametrize("line", ["", "--base base --tiny-base"])
def test_a_base_is_named_or_made(store: Store, line: str) -> None:
    done = train(store, trainer([DONE]), f"train --dataset way --name tuned {line}")
    assert done.code == 2
    assert "--base MODEL or --tiny-base" in done.err


def test_an_evaluation_is_followed_and_its_report_written(store: Store, tmp_path: Path) -> None:
    report = store.blobs.put_bytes("reports", b"<!doctype html>", "html")
    scores = [
        Score(metric="tempo_accuracy_1", model="tuned@1", value=0.5, n=8, chance=0.04, low=0.25, high=0.75),
        Score(metric="clap_score", model="tuned@1", note="no CLAP weights"),
    ]
    ended = Evaluation(evaluation_id="e1", state=EVALUATION_STATE_SUCCEEDED, done=8, total=8, scores=scores)
    ended.report.CopyFrom(report)
    ended.candidate = "tuned@7"
    created = Evaluation(evaluation_id="e1", state=EVALUATION_STATE_QUEUED)
    service = Stub(
        CreateEvaluation=CreateEvaluationResponse(evaluation=created),
        WatchEvaluation=lambda _request: iter([WatchEvaluationResponse(evaluation=ended)]),
    )
    line = f"evaluate --model tuned --seconds 3 --report {tmp_path / 'out/report.html'} --as ann"
    done = luthier(line, FakeClients(store, evaluation=service))
    assert (tmp_path / "out/report.html").read_bytes() == b"<!doctype html>"
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[1] == ["tempo_accuracy_1", "tuned@1", "0.500", "[0.250,", "0.750]", "8", "0.040"]
    assert done.out.splitlines()[2:] == [
        "not computed: clap_score: no CLAP weights",
        f"report {tmp_path / 'out/report.html'}",
        "evaluation e1",
        "next: luthier promote NAME --model tuned@7 --evaluation e1 --reason TEXT",
    ]
    [request] = service.requests("CreateEvaluation")
    assert (request.seconds_total, request.suite_name, request.HasField("steps")) == (3, "quick", False)


def test_the_status_of_an_evaluation_that_failed_is_the_commands(store: Store) -> None:
    failed = Evaluation(evaluation_id="e1", state=EVALUATION_STATE_FAILED, error=Status(code=5, message="no model"))
    service = Stub(CreateEvaluation=CreateEvaluationResponse(evaluation=failed), WatchEvaluation=lambda _: iter(()))
    done = luthier("evaluate --model tuned --request-id mine --json", FakeClients(store, evaluation=service))
    assert done.document["error"] == {"code": "NOT_FOUND", "reason": "NOT_FOUND", "message": "no model"}


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_run_that_is_left_by_ctrl_c_says_how_to_follow_and_to_end_it(store: Store, kind: str) -> None:
    def leave(_request: object) -> Any:
        raise KeyboardInterrupt

    queued = Evaluation(evaluation_id="evaluation-1", state=EVALUATION_STATE_QUEUED)
    evaluation = Stub(CreateEvaluation=CreateEvaluationResponse(evaluation=queued), WatchEvaluation=leave)
    training = trainer([])
    training.answers["WatchTrainingRun"] = [leave]
    lines = {"training": TRAIN, "evaluation": "evaluate --model tuned"}
    done = luthier(lines[kind], FakeClients(store, training=training, evaluation=evaluation))
    assert done.code == 130
    assert f"{kind}-1 goes on: the same command follows it again, luthier cancel {kind}-1 ends it" in done.err


def test_cancel_takes_the_id_of_either_kind_or_how_it_begins(store: Store) -> None:
    for name in ("training-ab12f0", "training-ab1234", "training-ab1235", "evaluation-ffff"):
        store.objects.create(f"runs/{name}/1.json", b"{}")
    training = Stub(CancelTrainingRun=CancelTrainingRunResponse(run=run_in(RUN_STATE_CANCELLED)))
    ended = Evaluation(evaluation_id="evaluation-ffff", state=EVALUATION_STATE_RUNNING)
    evaluation = Stub(CancelEvaluation=CancelEvaluationResponse(evaluation=ended))
    clients = FakeClients(store, training=training, evaluation=evaluation)
    assert luthier("cancel training-ab12f", clients).out == "training-ab12f0 is CANCELLED\n"
    assert luthier("cancel evaluation-ffff", clients).out == "evaluation-ffff asked to stop, now RUNNING\n"
    assert [asked.run_id for asked in training.requests("CancelTrainingRun")] == ["training-ab12f0"]
    several, none = luthier("cancel training-ab123", clients), luthier("cancel training-0123", clients)
    assert (several.code, "training-ab1234, training-ab1235" in several.err) == (2, True)
    assert (none.code, "RUN_NOT_FOUND" in none.err) == (1, True)


@pytest.mark.parametrize("begins", ["t", "training", "training-", "training-ab1", "evaluation-", "ab12", "''"])
def test_cancel_asks_for_four_digits_of_the_id(store: Store, begins: str) -> None:
    """The only run that there is must not end by one letter."""
    store.objects.create("runs/training-ab12/1.json", b"{}")
    training = Stub(CancelTrainingRun=CancelTrainingRunResponse(run=run_in(RUN_STATE_CANCELLED)))
    done = luthier(f"cancel {begins}", FakeClients(store, training=training))
    assert (done.code, "four digits of the id" in done.err) == (2, True)
    assert training.requests("CancelTrainingRun") == []


def test_a_base_that_was_never_registered_is_told_with_what_to_do(store: Store) -> None:
    unknown = NotFound("no model sao; there are: none", reason="MODEL_NOT_FOUND")
    done = luthier(
        TRAIN.replace("--base base", "--base sao"), FakeClients(store, training=Stub(CreateTrainingRun=unknown))
    )
    assert done.document["error"]["reason"] == "MODEL_NOT_FOUND"
    assert "luthier register sao --weights" in done.err
    assert "luthier train --tiny-base" in done.err
