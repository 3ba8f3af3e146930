"""fidelity: the request says what was asked, the answer what was found, and the page is saved."""

from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_SUCCEEDED,
    AudioSet,
    CreateEvaluationResponse,
    Evaluation,
    ListMetricWeightsResponse,
    MetricWeightsState,
    Score,
    WatchEvaluationResponse,
)
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
from tests.pipeline.fakes import FakeClients, Stub, luthier

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


def weights_of(**digests: str) -> ListMetricWeightsResponse:
    """What evaluation says of its embedders; an empty digest = no weights."""
    states = [MetricWeightsState(name=name, weights_sha256=digest) for name, digest in digests.items()]
    return ListMetricWeightsResponse(embedders=states)


def test_frechet_distances_without_any_weights_are_refused_before_the_run(store: Store, done: TrainingRun) -> None:
    training, evaluation = trainer([done]), Stub(ListMetricWeights=weights_of(musicnn_msd="", passt=""))
    told = luthier(f"{LINE} --frechet", FakeClients(store, training=training, evaluation=evaluation))
    assert told.code == 2
    assert "luthier metric-weights" in told.err
    assert not training.asked


def test_frechet_distances_are_those_of_an_evaluation_of_the_sound(
    store: Store, done: TrainingRun, tmp_path: Path
) -> None:
    """The reconstructions are its systems, the originals its references; what is too short to measure is left out."""

    def sound(what: str) -> ArtifactRef:
        return store.blobs.put_bytes("fidelity-reports", what.encode(), "flac", "audio/flac")

    del done.fidelity_report.clips[:]
    for name, seconds in (("one", 4.0), ("short", 0.25), ("two", 2.5)):
        kept = {f"{which}sound": sound(which + name) for which in ("", "model_", "baseline_")}
        done.fidelity_report.clips.add(clip_id=name, song=f"song of {name}", duration_s=seconds, **kept)
    scores = [
        Score(metric="fd_musicnn_msd", model="audio:truer@1", n=2, value=1.5, note="floor 0.2"),
        Score(metric="loudness", model="audio:truer@1", n=2, value=-14),
        Score(metric="fd_passt", note="not computed: no weights"),
    ]
    report = store.blobs.put_bytes("reports", b"<!doctype html><title>evaluation", "html", "text/html")
    ended = Evaluation(evaluation_id="e1", state=EVALUATION_STATE_SUCCEEDED, scores=scores, report=report)
    evaluation = Stub(
        ListMetricWeights=weights_of(musicnn_msd="ab" * 32, passt=""),
        CreateEvaluation=CreateEvaluationResponse(evaluation=ended),
        WatchEvaluation=lambda _request: iter([WatchEvaluationResponse(evaluation=ended)]),
    )
    training, page = trainer([done]), tmp_path / "pages" / "report.html"

    told = luthier(f"{LINE} --frechet --report {page}", FakeClients(store, training=training, evaluation=evaluation))

    assert told.code == 0, told.err
    [asked] = training.requests("CreateTrainingRun")
    assert asked.fidelity.keep_sound
    [request] = evaluation.requests("CreateEvaluation")
    rows = [(row.seconds_total, row.reference) for row in request.suite.rows]
    assert rows == [
        (4.0, sound("one")),
        (2.5, sound("two")),
    ]
    for ref, name, which in (
        (request.candidate_audio, "truer@1", "model_"),
        (request.baseline_audio, "sao@1", "baseline_"),
    ):
        found = store.get(AudioSet, ref)
        assert found.name == name
        assert [(item.name, item.audio) for item in found.items] == [(n, sound(which + n)) for n in ("one", "two")]
    assert request.aligned
    assert "musicnn_msd abab" in request.suite.description  # so that weights brought later are another evaluation
    lines = told.out.splitlines()
    assert any(line.split()[:3] == ["fd_musicnn_msd", "audio:truer@1", "1.500"] for line in lines)
    assert "not computed: fd_passt: no weights" in lines
    assert not any("loudness" in line for line in lines)
    assert (page.parent / f"{done.run_id}-frechet.html").read_bytes() == b"<!doctype html><title>evaluation"


def test_without_it_no_sound_is_kept_and_nothing_evaluated(store: Store, done: TrainingRun) -> None:
    training = trainer([done])
    luthier(LINE, FakeClients(store, training=training))
    [request] = training.requests("CreateTrainingRun")
    assert not request.fidelity.keep_sound


def test_status_says_what_was_measured(done: TrainingRun) -> None:
    lines = in_full(done).splitlines()
    assert "fidelity of   truer" in lines
    assert any(line.startswith("report        5 clips beside sao@1: fidelity-reports/") for line in lines)
