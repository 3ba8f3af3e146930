"""The experiment's page shows what was measured, and says what was not."""

import json
from pathlib import Path

from luthier.common.v1.common_pb2 import TempoFact
from luthier.evaluation.v1.evaluation_pb2 import (
    Evaluation,
    EvaluationPlan,
    EvaluationResults,
    RowResult,
    Score,
    Suite,
    SuiteRow,
)
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FineTune, LossPoint, TrainingRun
from luthier_pipeline.experiment.report import BASE, Measured, Sample, write_report

LOSSES = [LossPoint(step=step, loss=1 / step) for step in range(1, 20)]


def run(model: str) -> TrainingRun:
    return TrainingRun(
        model=model,
        request=CreateTrainingRunRequest(seed=3, fine_tune=FineTune(steps=20)),
        training=LOSSES,
        validation=[LossPoint(step=0, loss=0.5), LossPoint(step=20, loss=0.25)],
    )


def measured(title: str, model: str, accuracy: float, folder: Path) -> Measured:
    rows = [SuiteRow(prompt="p", tempo_bpm=100.0), SuiteRow(prompt="q", tempo_bpm=120.0), SuiteRow(prompt="no tempo")]
    results = [
        RowResult(row=number, model=name, tempo=TempoFact(tempo_bpm=tempo))
        for name in (model, "base@1")
        for number, tempo in enumerate((101.0, 0.0, 90.0))
    ]
    scores = [
        Score(metric="tempo_accuracy_2", model=model, value=accuracy, n=172, chance=0.2, low=0.5, high=0.9),
        Score(metric="tempo_accuracy_2", model="base@1", value=0.11, n=172, chance=0.2, low=0.05, high=0.2),
        Score(metric="key_exact", model=model, n=0),  # not computed
    ]
    return Measured(
        title=title,
        suite="paper-tempo",
        run=run(model),
        evaluation=Evaluation(candidate=model, baseline="base@1", scores=scores),
        results=EvaluationResults(plan=EvaluationPlan(suite=Suite(rows=rows)), rows=results, machine="two cores"),
        report=folder / f"{model}.html",
    )


def test_the_page_holds_every_model_its_score_and_what_is_not_computed(tmp_path: Path) -> None:
    both = [measured("true <captions>", "true@1", 0.8125, tmp_path), measured("control", "lie@1", 0.1875, tmp_path)]
    sample = Sample("control", "A <b>rock</b> song", "101.0 BPM", "audio/0-0.flac")
    page = write_report(tmp_path, run("base@1"), both, [sample]).read_text()
    for text in (
        "true &lt;captions&gt;",
        "0.812",
        "0.188",
        "0.110",
        "0.500 to 0.900",
        "chance 0.200",
        "172 rows",
        BASE,
    ):
        assert text in page, text
    assert "not computed" in page
    assert "A &lt;b&gt;rock&lt;/b&gt; song" in page
    assert "<b>rock" not in page
    assert 'href="true@1.html"' in page
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["scores"]["control"]["tempo_accuracy_2"]["value"] == 0.1875
    assert document["training"]["control"]["validation"] == [0.5, 0.25]


def test_only_rows_that_ask_for_a_tempo_and_have_one_are_plotted(tmp_path: Path) -> None:
    one = measured("t", "m@1", 0.5, tmp_path)
    assert one.tempi("m@1") == [(100.0, 101.0)]
