"""fidelity: the request says what was asked, the answer what was found, and the page is saved."""

from pathlib import Path

import pytest

from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.training.v1.training_pb2 import (
    RUN_STATE_SUCCEEDED,
    ClipFidelity,
    CreateTrainingRunRequest,
    FidelityReport,
    FidelityScores,
    MeasureFidelity,
    TrainingRun,
)
from luthier_kit.store import Store
from luthier_pipeline.training_status import in_full
from tests.pipeline.fakes import FakeClients, luthier

from .test_long_runs import MANIFEST, run_in, trainer

LINE = "fidelity truer --dataset way --as ann"


@pytest.fixture
def done(store: Store) -> TrainingRun:
    store.series(DatasetVersion, "datasets/way").append(DatasetVersion(manifest=MANIFEST))
    report = FidelityReport(
        model="truer@1",
        baseline="sao@1",
        clips=[ClipFidelity(clip_id="c")] * 5,
        mean=FidelityScores(stft=1.25, mel=0.5, si_sdr_db=8.25),
        baseline_mean=FidelityScores(stft=1.5, mel=0.75),
        page=store.blobs.put_bytes("fidelity-reports", b"<!doctype html>", "html", "text/html"),
    )
    request = CreateTrainingRunRequest(fidelity=MeasureFidelity(model="truer"))
    return run_in(RUN_STATE_SUCCEEDED, fidelity_report=report, request=request)


def test_both_models_are_told_and_the_page_is_saved(store: Store, done: TrainingRun, tmp_path: Path) -> None:
    training, page = trainer([done]), tmp_path / "report.html"
    told = luthier(f"{LINE} --clips 5 --report {page}", FakeClients(store, training=training))
    [request] = training.requests("CreateTrainingRun")
    assert (request.dataset, request.model_name, request.created_by) == (MANIFEST, "", "ann")
    assert (request.fidelity.model, request.fidelity.clips) == ("truer", 5)
    assert not request.fidelity.HasField("baseline")
    lines = [line.split() for line in told.out.splitlines()]
    assert ["sao@1", "1.5000", "0.7500", "silent"] in lines
    assert ["truer@1", "1.2500", "0.5000", "8.2", "dB"] in lines
    assert page.read_bytes() == b"<!doctype html>"


def test_a_model_beside_it_may_be_named(store: Store, done: TrainingRun) -> None:
    training = trainer([done])
    luthier(f"{LINE} --baseline other --max-clip 10", FakeClients(store, training=training))
    [request] = training.requests("CreateTrainingRun")
    assert (request.fidelity.baseline, request.fidelity.max_clip_s) == ("other", 10)


def test_status_says_what_was_measured(done: TrainingRun) -> None:
    lines = in_full(done).splitlines()
    assert "fidelity of   truer" in lines
    assert any(line.startswith("report        5 clips beside sao@1: fidelity-reports/") for line in lines)
