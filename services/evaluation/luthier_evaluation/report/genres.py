"""Scores by genre: a table of some metrics, and a plot of one of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.metrics import METRICS, Metric
from luthier_evaluation.report import plots
from luthier_evaluation.report.text import with_interval


@dataclass(frozen=True)
class GenreRow:
    """Scores of a genre: `cells` has for each model, in the plan's order, one score for each metric, None = no row;
    `n` are the rows of the model that has most."""

    genre: str
    n: int
    cells: Sequence[Sequence[pb.Score | None]]


@dataclass(frozen=True)
class GenreScores:
    """Scores by genre, and the plot of the first metric."""

    metrics: Sequence[Metric]
    rows: Sequence[GenreRow]
    plot: Markup


def genre_scores(results: pb.EvaluationResults, names: Sequence[str], colours: Sequence[str]) -> GenreScores | None:
    """The scores of these metrics, whose unit is a share; None where no row names a genre and asks for any of them."""
    by_name = {metric.name: metric for metric in METRICS}
    metrics = [by_name[name] for name in names]
    found = {(score.metric, score.genre, score.model): score for score in results.genre_scores}
    genres = list(dict.fromkeys(score.genre for score in results.genre_scores if score.metric in names))
    if not genres:
        return None
    models = [model.model for model in results.plan.models]
    rows = []
    for genre in genres:
        cells = [[found.get((metric.name, genre, model)) for metric in metrics] for model in models]
        rows.append(GenreRow(genre, max(score.n for scores in cells for score in scores if score), cells))
    groups = []
    for row in rows:
        marks = [
            plots.Mark(
                scores[0].value,
                scores[0].low,
                scores[0].high,
                None,
                colour,
                f"{row.genre}, {scores[0].model}: {with_interval(scores[0], metrics[0].unit)}, n = {scores[0].n}",
            )
            for scores, colour in zip(row.cells, colours, strict=True)
            if scores[0]
        ]
        if marks:
            groups.append((row.genre, marks))
    return GenreScores(metrics, rows, plots.intervals_by_group(groups, f"{metrics[0].title} by genre"))
