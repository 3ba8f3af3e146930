"""A run as the store has it is a run as callers see it; runs of release 0.1 are read.

`stored/runs.json` holds the series that release 0.1 wrote (commit 5aa81e1), by their keys.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from luthier.registry.v1.registry_pb2 import Cancellation
from luthier.training.v1 import training_pb2 as pb
from luthier_kit.registry import RUN_STATE_RUNNING, RunLog, list_runs, run_id_of
from luthier_kit.rpc import FailedPrecondition, Internal, error_of
from luthier_kit.store import Store
from luthier_training.requests import settle
from luthier_training.runs import KIND, to_message

STORED = json.loads((Path(__file__).parent / "stored/runs.json").read_text())


@pytest.fixture
def old(store: Store) -> Callable[[str], pb.TrainingRun]:
    """Gives the run of a request id as callers see it."""
    for key, value in STORED.items():
        store.objects.create(key, json.dumps(value).encode())
    return lambda name: to_message(RunLog(store, KIND, run_id_of("training", name)).read())


def test_an_old_run_that_succeeded(old: Callable[[str], pb.TrainingRun]) -> None:
    run = old("succeeded")
    assert (pb.RunState.Name(run.state), run.stage, run.attempts) == ("RUN_STATE_SUCCEEDED", "export", 1)
    assert (run.model, run.model_digest) == ("tuned@1", "sha256:" + "ab" * 32)
    assert [(point.step, point.loss) for point in run.validation] == [(0, 0.8387500882148743), (4, 0.81389399766922)]
    assert [(point.step, point.loss) for point in run.training] == [(1, 0.85), (5, 0.8781293034553528)]
    assert (run.loss, run.checkpoint.size_bytes) == (0.8781293034553528, 850452)
    assert run.request.fine_tune.steps == 8
    assert run.request.created_by == "Ada"
    assert not run.HasField("eta_s")
    assert run.created_at.seconds > 0


def test_an_old_run_that_failed_keeps_its_status(old: Callable[[str], pb.TrainingRun]) -> None:
    run = old("failed")
    assert pb.RunState.Name(run.state) == "RUN_STATE_FAILED"
    assert run.error.code == 9
    assert error_of(run.error).reason == "TRAINING_DIVERGED"
    assert "lower learning rate" in run.error.message


def test_an_old_run_that_was_cancelled(old: Callable[[str], pb.TrainingRun], store: Store) -> None:
    assert pb.RunState.Name(old("cancelled").state) == "RUN_STATE_CANCELLED"
    assert old("cancelled").request.tiny_base.autoencoder_steps == 40
    cancellation = RunLog(store, KIND, run_id_of("training", "cancelled")).read().cancellation
    assert cancellation == Cancellation(requested_by="Ada", reason="enough")


def test_an_old_run_that_waits_says_why(old: Callable[[str], pb.TrainingRun]) -> None:
    assert old("waiting").stage == "queued in Kueue"


def test_an_old_run_goes_on_from_its_checkpoint(old: Callable[[str], pb.TrainingRun], store: Store) -> None:
    own = RunLog(store, KIND, run_id_of("training", "stopped"), "runner-b")
    run = own.start()
    assert (run.state, run.attempts, run.progress.checkpoint_step) == (RUN_STATE_RUNNING, 2, 5)
    assert run.progress.checkpoint.key.endswith("5f.safetensors")
    own.progress(run.progress)
    assert to_message(RunLog(store, KIND, own.id).read()).checkpoint == run.progress.checkpoint


def test_old_and_new_runs_are_in_one_list(old: Callable[[str], pb.TrainingRun], store: Store) -> None:
    new = RunLog.create(store, KIND, "new", pb.CreateTrainingRunRequest(request_id="new"))
    listed = list_runs(store, KIND)
    assert listed[0].id == new.id
    assert len(listed) == 6


def test_a_repeated_request_of_an_old_run_is_that_run(old: Callable[[str], pb.TrainingRun], store: Store) -> None:
    asked = old("succeeded").request
    assert RunLog.create(store, KIND, "succeeded", asked).read().attempts == 1


def test_a_waiting_run_shows_what_it_waits_for_and_no_estimate(store: Store) -> None:
    log = RunLog.create(store, KIND, "r", pb.CreateTrainingRunRequest())
    own = RunLog(store, KIND, log.id, "runner")
    own.start()
    own.progress(pb.TrainingProgress(stage="train", done=3, total=8, eta_s=9.0))
    own.heartbeat.stop()
    log.requeue()
    log.waiting("its Job is suspended")
    run = to_message(log.read())
    assert (run.stage, run.done, run.HasField("eta_s")) == ("its Job is suspended", 3, False)


def test_a_failed_run_has_its_status(store: Store) -> None:
    log = RunLog.create(store, KIND, "r", pb.CreateTrainingRunRequest())
    log.fail(Internal("its runner died 10 times", reason="RUNNER_DIED"))
    error = to_message(log.read()).error
    assert (error.code, error_of(error).reason) == (13, "RUNNER_DIED")


def test_an_old_run_is_found_by_its_request_though_more_can_be_asked_now(
    old: Callable[[str], pb.TrainingRun], store: Store
) -> None:
    asked = old("succeeded").request
    effective = settle(asked)
    assert effective != asked  # this release fills in fields that 0.1 did not have
    found = to_message(RunLog.create(store, KIND, "succeeded", effective, settle).read())
    assert pb.RunState.Name(found.state) == "RUN_STATE_SUCCEEDED"
    effective.fine_tune.steps += 1
    with pytest.raises(FailedPrecondition) as other:
        RunLog.create(store, KIND, "succeeded", effective, settle)
    assert other.value.reason == "REQUEST_ID_REUSED"
