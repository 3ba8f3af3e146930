"""Tempo in the report: asked for against measured, how far off it is, and its scores by genre."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from markupsafe import Markup

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.metrics import tempo_of
from luthier_evaluation.report import plots
from luthier_evaluation.report.genres import GenreScores, genre_scores
from luthier_evaluation.report.text import rows
from luthier_music.tempo import TOLERANCE

PLANE: Final = plots.Plane(
    name="Tempo asked for against tempo measured",
    x="Tempo asked for (BPM)",
    y="Tempo measured (BPM)",
    slopes={1: "as asked", 2: "× 2", 0.5: "× ½"},
    room=6.0,
)
BIN: Final = 2 * math.log2(1 + TOLERANCE)
"""Width of a bin of the histogram of errors, octaves: the middle one holds what Accuracy 2 accepts (thirds apart)."""
TICKS: Final = (-0.25, -0.1, 0.0, 0.1, 0.25)
"""Errors that the axis names, as shares of the tempo asked for."""


@dataclass(frozen=True)
class TempoSection:
    """What the report shows of tempo. `unmeasured`: rows of each model that ask for a tempo and in which none was
    found; `second`: estimators of the second opinion."""

    asked: bool
    scatter: Markup | None
    errors: Markup | None
    unmeasured: Sequence[int]
    genres: GenreScores | None
    second: Sequence[str]


def tempo_section(results: pb.EvaluationResults, colours: Sequence[str]) -> TempoSection:
    """`colours` are those of the plan's models."""
    plan = results.plan
    measured = []
    unmeasured = []
    for model in plan.models:
        asked = [
            (result, plan.suite.rows[result.row].tempo_bpm)
            for result in results.rows
            if result.model == model.model
            and plan.suite.rows[result.row].HasField("tempo_bpm")
            and not result.HasField("error")
        ]
        found = [(result, bpm, heard) for result, bpm in asked if (heard := tempo_of(result))]
        measured.append(found)
        unmeasured.append(len(asked) - len(found))
    points = [
        (
            colour,
            [
                plots.Point(bpm, heard, f"{result.model}, row {result.row}: {bpm:g} -> {heard:.1f}")
                for result, bpm, heard in found
            ],
        )
        for colour, found in zip(colours, measured, strict=True)
    ]
    ratios = [[octave_error(bpm, heard) for _, bpm, heard in found] for found in measured]
    any_measured = any(measured)
    return TempoSection(
        asked=any(row.HasField("tempo_bpm") for row in plan.suite.rows),
        scatter=plots.scatter(points, PLANE) if any_measured else None,
        errors=_histogram([model.model for model in plan.models], ratios, colours) if any_measured else None,
        unmeasured=unmeasured,
        genres=genre_scores(results, ("tempo_accuracy_2", "tempo_accuracy_1"), colours),
        second=sorted({result.beat_tempo.estimator for result in results.rows} - {""}),
    )


def octave_error(asked_bpm: float, measured_bpm: float) -> float:
    """The ratio of two tempi in octaves, folded into the octave about 1: from -1/2 to 1/2, 0 = as asked, or 2 or 1/2
    times it."""
    octaves = math.log2(measured_bpm / asked_bpm)
    return octaves - math.floor(octaves + 0.5)


def error_edges() -> list[float]:
    """Edges of the histogram's bins, octaves: BIN wide about 0, the outermost ones cut off at half an octave."""
    count = math.floor(0.5 / BIN - 0.5)
    inner = [(number + 0.5) * BIN for number in range(-count - 1, count + 1)]
    return [-0.5, *inner, 0.5]


def _histogram(models: Sequence[str], errors: Sequence[Sequence[float]], colours: Sequence[str]) -> Markup:
    edges = error_edges()
    spans = [f"{_percent(low)} to {_percent(high)}" for low, high in pairwise(edges)]
    series = []
    for model, colour, of_model in zip(models, colours, errors, strict=True):
        counts = np.histogram(of_model, bins=edges)[0].tolist()
        titles = [f"{model}, {span}: {rows(count)}" for span, count in zip(spans, counts, strict=True)]
        series.append(plots.Bars(colour, counts, titles))
    axis = plots.Axis(
        "Error of the tempo, octaves left out (log axis)",
        edges,
        {math.log2(1 + share): f"{100 * share:+.0f} %".replace("-", "−") if share else "0" for share in TICKS},
    )
    return plots.histogram(series, axis, "Rows by the error of their tempo, octaves left out")


def _percent(octaves: float) -> str:
    return f"{100 * (2**octaves - 1):+.1f} %".replace("-", "−")
