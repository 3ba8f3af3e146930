"""train-autoencoder: the request says what was asked, and the answer what became of the model."""

import pytest

from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.training.v1.training_pb2 import RUN_STATE_FAILED, RUN_STATE_SUCCEEDED, FidelityPoint, LossPoint
from luthier_kit.rpc import InvalidRequest, status_of
from luthier_kit.store import Store
from tests.pipeline.fakes import FakeClients, luthier

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
