"""The experiment's page: what was asked and what is heard, model by model, with plots, loss curves and audio."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from luthier.evaluation.v1.evaluation_pb2 import Evaluation, EvaluationResults, Score
from luthier.training.v1.training_pb2 import LossPoint, TrainingRun

METRICS: Final = {
    "tempo_accuracy_2": "Tempo, Accuracy 2",
    "tempo_accuracy_1": "Tempo, Accuracy 1",
    "key_exact": "Key, exact",
    "key_mirex": "Key, MIREX",
}
PUBLISHED: Final = {
    "tempo_accuracy_2": "Stable Audio Open 0.776, fine-tuned 0.953",
    "key_exact": "Stable Audio Open 0.21, fine-tuned 0.26",
}
"""Of the paper, by models a thousand times as large on the same design of prompts in other words."""
COLOURS: Final = ("#0b7a75", "#7a5195", "#b8651b", "#3d6fb4", "#8a94a6")
BASE: Final = "the base, untrained"


@dataclass(frozen=True)
class Sample:
    """A row to listen to: whose it is, what was asked, what was heard, the file beside the page."""

    title: str
    prompt: str
    heard: str
    file: str


@dataclass(frozen=True)
class Measured:
    """One evaluation of one model: `title` of the model in the report, its training, its report's file."""

    title: str
    suite: str
    run: TrainingRun
    evaluation: Evaluation
    results: EvaluationResults
    report: Path

    def tempi(self, model: str) -> list[tuple[float, float]]:
        """(asked, measured) of each row of a model with a tempo asked for and one found, BPM."""
        rows = self.results.plan.suite.rows
        return [
            (rows[result.row].tempo_bpm, result.tempo.tempo_bpm)
            for result in self.results.rows
            if result.model == model and result.tempo.tempo_bpm and rows[result.row].tempo_bpm
        ]


def scores(measured: Sequence[Measured]) -> dict[str, dict[str, Score]]:
    """Scores by title of the model, then by metric; those of the base once."""
    found: dict[str, dict[str, Score]] = {}
    for one in measured:
        for score in one.evaluation.scores:
            title = {one.evaluation.candidate: one.title, one.evaluation.baseline: BASE}.get(score.model)
            if title and score.metric in METRICS and score.HasField("value"):
                found.setdefault(title, {})[score.metric] = score
    return found


def write_report(out: Path, base: TrainingRun, measured: Sequence[Measured], samples: Sequence[Sample]) -> Path:
    """Writes report.html and report.json into `out`."""
    found = scores(measured)
    titles = [*dict.fromkeys(one.title for one in measured), BASE]
    runs = {one.title: one.run for one in measured}
    templates = Environment(
        loader=PackageLoader("luthier_pipeline", "experiment"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = templates.get_template("report.html").render(
        titles=titles,
        metrics=METRICS,
        published=PUBLISHED,
        scores=found,
        runs={title: _training(run) for title, run in runs.items()},
        tempi=_tempi(measured),
        losses=_losses({title: list(run.training) for title, run in runs.items()}),
        autoencoder=_losses({"autoencoder": list(base.training or base.validation)}),
        reports=[(f"{one.title}, {one.suite}", one.report.name) for one in measured],
        samples=samples,
        machine=measured[0].results.machine,
    )
    target = out / "report.html"
    target.write_text(page, encoding="utf-8")
    document = {
        "scores": {title: {name: _numbers(score) for name, score in of.items()} for title, of in found.items()},
        "training": {title: _training(run) for title, run in runs.items()},
        "samples": [asdict(sample) for sample in samples],
        "machine": measured[0].results.machine,
    }
    (out / "report.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return target


def _numbers(score: Score) -> dict[str, float | int | None]:
    return {
        name: getattr(score, name) if score.HasField(name) else None for name in ("value", "low", "high", "chance")
    } | {"n": score.n}


def _training(run: TrainingRun) -> dict[str, Any]:
    """Steps, validation loss before and after."""
    losses = [point.loss for point in run.validation]
    return {
        "model": run.model,
        "seed": str(run.request.seed),
        "steps": run.request.fine_tune.steps,
        "validation": [losses[0], losses[-1]] if losses else [],
    }


def _tempi(measured: Sequence[Measured]) -> Markup:
    """Tempo asked for against tempo measured, one plot for each model and one for the base."""
    shown = {one.title: one.tempi(one.evaluation.candidate) for one in measured if one.suite.endswith("tempo")}
    first = next((one for one in measured if one.suite.endswith("tempo")), None)
    if first:
        shown[BASE] = first.tempi(first.evaluation.baseline)
    figure = Figure((3.2 * len(shown), 3.4), layout="constrained")
    for number, (title, points) in enumerate(shown.items(), 1):
        axes = figure.add_subplot(1, len(shown), number)
        for factor in (0.5, 1, 2):
            axes.plot([70, 165], [70 * factor, 165 * factor], color="#d9dee7", linewidth=1, zorder=1)
        axes.scatter([asked for asked, _ in points], [heard for _, heard in points], s=9, color=COLOURS[0], zorder=2)
        axes.set(xlim=(70, 165), ylim=(40, 230), xlabel="asked for (BPM)", ylabel="measured (BPM)")
        axes.set_title(title, fontsize=9)
    return _svg(figure, "Tempo asked for against tempo measured, model by model")


def _losses(curves: Mapping[str, Sequence[LossPoint]]) -> Markup:
    figure = Figure((6.4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    for colour, (title, points) in zip(cycle(COLOURS), curves.items(), strict=False):
        axes.plot([p.step for p in points], [p.loss for p in points], color=colour, linewidth=0.8, label=title)
    axes.set(xlabel="Step", ylabel="Loss")
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure, "Training loss by step")


def _svg(figure: Figure, name: str) -> Markup:
    """The figure as an image that stands in the page."""
    held = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "luthier"}):
        figure.savefig(held, format="svg", metadata={"Date": None})
    data = base64.b64encode(held.getvalue()).decode()
    return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(name, data)
