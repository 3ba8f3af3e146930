"""Length in the report, of rows that were generated untrimmed: where their sound ends against the length asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.ends import RUNS_ON_S
from luthier_evaluation.report import plots
from luthier_evaluation.report.text import rows

PLANE: Final = plots.Plane(
    name="Length asked for against the end of the sound",
    x="Length asked for (s)",
    y="End of the sound (s)",
    slopes={1: "as asked"},
    room=0.5,
)
BINS: Final = 24  # about, of the histogram
STEPS_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Widths that a bin may have."""


@dataclass(frozen=True)
class LengthSection:
    """What the report shows of length. Of each model the rows that are silent, and those whose sound runs on to the end
    of the window though less was asked for: their error is at least what is measured."""

    scatter: Markup | None
    errors: Markup | None
    silent: Sequence[int]
    run_on: Sequence[int]


def length_section(results: pb.EvaluationResults, colours: Sequence[str]) -> LengthSection | None:
    """None where no row was generated untrimmed. `colours` are those of the plan's models."""
    plan = results.plan
    by_model = [
        [row for row in results.rows if row.model == model.model and row.HasField("untrimmed_s")]
        for model in plan.models
    ]
    if not any(by_model):
        return None
    sounding = [[row for row in of_model if row.HasField("sounding_s")] for of_model in by_model]
    points = [
        (colour, [_point(plan.suite.rows[row.row], row) for row in of_model])
        for colour, of_model in zip(colours, sounding, strict=True)
    ]
    errors = [[row.sounding_s - plan.suite.rows[row.row].seconds_total for row in of_model] for of_model in sounding]
    return LengthSection(
        scatter=plots.scatter(points, PLANE) if any(sounding) else None,
        errors=_histogram([model.model for model in plan.models], errors, colours) if any(sounding) else None,
        silent=[len(of_model) - len(sound) for of_model, sound in zip(by_model, sounding, strict=True)],
        run_on=[sum(runs_on(plan.suite.rows[row.row], row) for row in of_model) for of_model in sounding],
    )


def runs_on(row: pb.SuiteRow, result: pb.RowResult) -> bool:
    """Whether the sound goes on to the end of the window though less was asked for."""
    end_s = result.untrimmed_s - RUNS_ON_S
    return result.HasField("sounding_s") and result.sounding_s >= end_s > row.seconds_total


def error_edges(errors_s: Sequence[float]) -> list[float]:
    """Edges of bins for all the errors, seconds: about BINS of a round width, 0 in the middle of one."""
    low, high = min(errors_s), max(errors_s)
    step = next((step for step in STEPS_S if (high - low) / step <= BINS), STEPS_S[-1])
    first, last = math.floor(low / step + 0.5), math.floor(high / step + 0.5)
    return [round((number - 0.5) * step, 6) for number in range(min(first, -1), max(last, 1) + 2)]


def _histogram(models: Sequence[str], errors: Sequence[Sequence[float]], colours: Sequence[str]) -> Markup:
    edges = error_edges([error for of_model in errors for error in of_model])
    series = []
    for model, colour, of_model in zip(models, colours, errors, strict=True):
        counts = np.histogram(of_model, bins=edges)[0].tolist()
        titles = [
            f"{model}, {low:+g} to {high:+g} s: {rows(count)}".replace("-", "−")
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ]
        series.append(plots.Bars(colour, counts, titles))
    step = edges[1] - edges[0]
    every = max(1, math.ceil((len(edges) - 1) / 8))
    middles = [number * step for number in range(round(edges[0] / step + 0.5), round(edges[-1] / step + 0.5))]
    ticks = {at: f"{at:+g}".replace("-", "−") for at in middles if round(at / step) % every == 0}
    axis = plots.Axis("End of the sound less the length asked for (s)", edges, {**ticks, 0.0: "0"})
    return plots.histogram(series, axis, "Rows by how far their sound ends from the length asked for")


def _point(row: pb.SuiteRow, result: pb.RowResult) -> plots.Point:
    text = f"{result.model}, row {result.row}: {row.seconds_total:g} s -> {result.sounding_s:.1f} s"
    return plots.Point(row.seconds_total, result.sounding_s, f"{text}, to the end" if runs_on(row, result) else text)
