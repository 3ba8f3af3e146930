"""train-autoencoder: the request says what was asked, and the answer what became of the model."""

from typing import Any

import pytest

from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    KEPT_REASON_NEWEST,
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    ContinueFrom,
    CreateTrainingRunRequest,
    FidelityPoint,
    GetTrainingRunResponse,
    KeptCheckpoint,
    LossPoint,
    TrainAutoencoder,
    TrainingRun,
)
from luthier_kit.rpc import InvalidRequest, status_of
from luthier_kit.store import Store
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier

from .test_long_runs import MANIFEST, run_in, trainer

LINE = "train-autoencoder --base sao --dataset way --name truer --as ann"
DONE = run_in(
    RUN_STATE_SUCCEEDED,
    model="truer@1",
    validation=[LossPoint(loss=1.5), LossPoint(step=6, loss=1.25)],
    fidelity=[FidelityPoint(mel=0.5, si_sdr_db=7), FidelityPoint(step=6, mel=0.25, si_sdr_db=8.25)],
)


@pytest.fixture
def store(store: Store) -> Store:
    store.series(DatasetVersion, "datasets/way").append(DatasetVersion(manifest=MANIFEST))
    return store


def test_a_decoder_is_trained_unless_the_encoder_is_asked_for(store: Store) -> None:
    training = trainer([DONE])
    done = luthier(f"{LINE} --steps 6 --window 8192 --flat", FakeClients(store, training=training))
    [request] = training.requests("CreateTrainingRun")
    asked = request.autoencoder
    assert (request.dataset, request.model_name, request.created_by) == (MANIFEST, "truer", "ann")
    assert (asked.base_model, asked.decoder_only, asked.steps, asked.window_samples) == ("sao", True, 6, 8192)
    assert not asked.a_weighting
    assert not asked.HasField("batch_size")
    assert done.out.splitlines() == [
        "model truer@1",
        "held-out clips: distance of spectra 1.5000 -> 1.2500, of mel spectra 0.5000 -> 0.2500, SI-SDR 7.0 -> 8.2 dB",
        "to hear it: luthier fidelity truer@1 --dataset way --report fidelity.html",
        "next: luthier evaluate --model truer@1 --baseline sao --report report.html",
    ]


def test_who_trains_the_encoder_is_told_to_fine_tune(store: Store) -> None:
    training = trainer([DONE])
    done = luthier(f"{LINE} --with-encoder --random-start", FakeClients(store, training=training))
    [request] = training.requests("CreateTrainingRun")
    assert (request.autoencoder.decoder_only, request.autoencoder.random_start) == (False, True)
    assert "luthier train --base truer@1 --dataset way" in done.out.splitlines()[-1]


def test_random_weights_of_a_decoder_alone_are_refused(store: Store) -> None:
    training = trainer([DONE])
    done = luthier(f"{LINE} --random-start", FakeClients(store, training=training))
    assert (done.code, training.requests("CreateTrainingRun")) == (2, [])
    assert "--with-encoder" in done.err


def test_the_status_of_a_run_that_failed_is_the_commands(store: Store) -> None:
    error = status_of(InvalidRequest("the crops are silent", reason="DATASET_INVALID"), "training")
    training = trainer([run_in(RUN_STATE_FAILED, error=error)])
    done = luthier(f"{LINE} --json", FakeClients(store, training=training))
    assert done.document["error"]["reason"] == "DATASET_INVALID"


def test_a_run_that_is_left_to_itself_says_how_to_follow_it(store: Store) -> None:
    training = trainer([])
    done = luthier(f"{LINE} --detach", FakeClients(store, training=training))
    assert "goes on in the service" in done.out
    assert training.requests("WatchTrainingRun") == []


def stopped(**more: Any) -> TrainingRun:
    """A run that was cancelled and keeps a checkpoint."""
    asked = CreateTrainingRunRequest(
        dataset=MANIFEST, model_name="truer", seed=7, autoencoder=TrainAutoencoder(base_model="sao", steps=9)
    )
    kept = [KeptCheckpoint(step=5, reasons=[KEPT_REASON_NEWEST])]
    told = {"state": RUN_STATE_CANCELLED, "request": asked, "base": "sao@3", "kept": kept, **more}
    return TrainingRun(run_id="training-5a1c", **told)


def continuing(store: Store, run: TrainingRun, line: str) -> tuple[Done, Stub]:
    """What the command does whose service knows this run."""
    store.series(CreateTrainingRunRequest, "runs/training-5a1c").append(run.request)
    training = trainer([DONE])
    training.answers["GetTrainingRun"] = [GetTrainingRunResponse(run=run)]
    return luthier(f"train-autoencoder {line}", FakeClients(store, training=training)), training


def test_a_run_is_gone_on_with_as_it_was_asked_for(store: Store) -> None:
    done, training = continuing(store, stopped(), "--continue training-5a1c@5 --export best")
    assert done.code == 0, done.err
    [request] = training.requests("CreateTrainingRun")
    asked = request.autoencoder
    assert (request.dataset, request.model_name, request.seed) == (MANIFEST, "truer", 7)
    assert (asked.base_model, asked.steps, asked.export) == ("sao@3", 9, EXPORTED_WEIGHTS_BEST_BY_VALIDATION)
    assert asked.continue_from == ContinueFrom(run_id="training-5a1c", step=5, same_plan=True)


@pytest.mark.parametrize("line", ["--steps 20", "--with-encoder", "--base sao", "--dataset way", "--seed 3"])
def test_what_changes_the_plan_does_not_go_with_continue(store: Store, line: str) -> None:
    done, training = continuing(store, stopped(), f"--continue training-5a1c {line}")
    assert (done.code, training.requests("CreateTrainingRun")) == (2, [])
    assert "--continue goes on with the" in done.err


def test_a_finished_run_is_named_as_a_base(store: Store) -> None:
    done, _ = continuing(store, stopped(state=RUN_STATE_SUCCEEDED, model="truer@1"), "--continue training-5a1c")
    assert done.code == 2
    assert "from truer@1, name it as --base" in done.err


def test_a_run_that_failed_says_how_to_go_on(store: Store) -> None:
    error = status_of(InvalidRequest("the crops are silent", reason="DATASET_INVALID"), "training")
    training = trainer([stopped(state=RUN_STATE_FAILED, error=error)])
    done = luthier(LINE, FakeClients(store, training=training))
    assert "next: luthier train-autoencoder --continue training-5a1c" in done.err


@pytest.mark.parametrize("line", ["--base sao --dataset way", "--export worst --base sao --dataset way --name truer"])
def test_what_is_missing_or_unknown_is_said(store: Store, line: str) -> None:
    done = luthier(f"train-autoencoder {line}", FakeClients(store, training=trainer([DONE])))
    assert done.code == 2
