"""The table of scores: every metric for every model, with n, chance level and interval, and the paired difference."""

from collections.abc import Callable, Iterable, Sequence

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.audio_values import absent_embedders, scores_by
from luthier_evaluation.metrics import metrics_of
from luthier_evaluation.plan import baseline, candidate
from luthier_evaluation.statistics import interval, sign_flip_p

FEW_ROWS = 20


def score_table(
    plan: pb.EvaluationPlan,
    results: Sequence[pb.RowResult],
    of_all: Callable[[str, Sequence[pb.RowResult]], Iterable[pb.Score]],
) -> list[pb.Score]:
    """All scores, by metric; within a metric baseline, candidate, and the difference over the rows that both have.
    `of_all` gives the scores of all rows of a model together.

    A score without `value` was not computed; its `note` says why.
    """
    table = []
    for metric in metrics_of(plan):
        values: list[dict[int, float]] = []  # of each model, by row
        for model in plan.models:
            pairs = [(plan.suite.rows[r.row], r) for r in results if r.model == model.model and not r.HasField("error")]
            of_rows = {result.row: metric.of(row, result) for row, result in pairs}
            values.append({row: value for row, value in of_rows.items() if value is not None})
            score = _score(metric.name, model.model, list(values[-1].values()), metric.absent)
            if metric.chance and score.HasField("value"):
                chance = metric.chance(pairs)
                if chance.value is not None:
                    score.chance = chance.value
                score.note = "; ".join(filter(None, (score.note, chance.note)))
            table.append(score)
        if baseline(plan):
            before, after = values
            differences = [after[row] - before[row] for row in sorted(before.keys() & after.keys())]
            score = _score(metric.name, difference_name(plan), differences, "no row that both models have")
            if score.HasField("value"):
                score.p = sign_flip_p(differences)
                score.note = "; ".join(filter(None, (f"paired by row, sign-flip p = {score.p:.3g}", score.note)))
            table.append(score)
    together = [
        of_all(m.model, [r for r in results if r.model == m.model and r.HasField("audio")]) for m in plan.models
    ]
    table += [score for scores in zip(*together, strict=True) for score in scores]
    return table + [
        pb.Score(metric=metric, model=model.model, note=why)
        for embedder, why in absent_embedders(plan)
        for metric in scores_by(embedder)
        for model in plan.models
    ]


def genre_scores(plan: pb.EvaluationPlan, results: Sequence[pb.RowResult]) -> list[pb.Score]:
    """Scores of tempo and key of each model by genre, by metric and genre, over the rows that name the genre."""
    genres = list(dict.fromkeys(genre for row in plan.suite.rows for genre in row.genres))
    table = []
    for metric in metrics_of(plan):
        for genre in genres if metric.permuted else ():
            for model in plan.models:
                values = [
                    metric.of(plan.suite.rows[result.row], result)
                    for result in results
                    if result.model == model.model
                    and genre in plan.suite.rows[result.row].genres
                    and not result.HasField("error")
                ]
                asked = [value for value in values if value is not None]
                if asked:
                    score = _score(metric.name, model.model, asked, "")
                    score.genre = genre
                    table.append(score)
    return table


def difference_name(plan: pb.EvaluationPlan) -> str:
    """What stands for a model where two are subtracted: `candidate - baseline`; empty where there is one model."""
    other = baseline(plan)
    return f"{candidate(plan).model} - {other.model}" if other else ""


def caution(score: pb.Score) -> str:
    """What to mind about a score's interval; empty = nothing."""
    if not score.HasField("low"):
        return ""
    if score.low == score.high:
        return "all rows alike: the interval cannot show how sure this is"
    return f"fewer than {FEW_ROWS} rows: the interval is rough" if score.n < FEW_ROWS else ""


def _score(metric: str, model: str, values: Sequence[float], without_rows: str) -> pb.Score:
    found = interval(values)
    if found is None:
        return pb.Score(metric=metric, model=model, note=f"not computed: {without_rows}")
    score = pb.Score(metric=metric, model=model, value=found.mean, n=found.n, low=found.low, high=found.high)
    score.note = caution(score)
    return score
