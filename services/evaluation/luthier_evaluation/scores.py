"""The table of scores: every metric for every model, with n, chance level and interval, and the paired difference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from luthier_evaluation.measurement import Measurement
from luthier_evaluation.metrics import ABSENT, METRICS, Metric, Pairs
from luthier_evaluation.plan import Plan
from luthier_evaluation.statistics import Interval, interval, sign_flip_p

FEW_ROWS = 20


@dataclass(frozen=True)
class Score:
    """One cell. `model` is `name@n`, or `candidate - baseline` for a paired difference over the rows both have.

    `value` is None when it was not computed; `note` says why, or what to mind.
    """

    metric: str
    model: str
    value: float | None = None
    n: int = 0
    chance: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
    p: float | None = None
    """Of a paired difference: two-sided p of the sign-flip test."""


def table(plan: Plan, measurements: Sequence[Measurement]) -> list[Score]:
    """All scores, by metric; within a metric baseline, candidate, difference."""
    scores = []
    for metric in METRICS:
        pairs = [_pairs(plan, measurements, model.label) for model in plan.models]
        scores += [_score(metric, model.label, made) for model, made in zip(plan.models, pairs, strict=True)]
        if plan.baseline:
            scores.append(_difference(metric, difference_name(plan), *pairs))
    return scores + [Score(absent.name, model.label, note=absent.reason) for absent in ABSENT for model in plan.models]


def difference_name(plan: Plan) -> str:
    """What stands for a model where two are subtracted."""
    return f"{plan.candidate.label} - {plan.baseline.label}" if plan.baseline else ""


def _pairs(plan: Plan, measurements: Sequence[Measurement], model: str) -> Pairs:
    return [(plan.suite.rows[m.row], m) for m in measurements if m.model == model and not m.error]


def _score(metric: Metric, model: str, pairs: Pairs) -> Score:
    values = [value for row, made in pairs if (value := metric.of(row, made)) is not None]
    found = interval(values)
    if found is None:
        return Score(metric.name, model, note="not computed: no row to which it applies")
    chance = metric.chance(pairs) if metric.chance else None
    notes = [caution(found.n, found.low, found.high), chance.note if chance else ""]
    return _filled(metric.name, model, found, "; ".join(filter(None, notes)), chance.value if chance else None)


def _difference(metric: Metric, name: str, baseline: Pairs, candidate: Pairs) -> Score:
    before = {made.row: metric.of(row, made) for row, made in baseline}
    after = {made.row: metric.of(row, made) for row, made in candidate}
    both = [(before[row], after[row]) for row in sorted(before.keys() & after.keys())]
    differences = [new - old for old, new in both if old is not None and new is not None]
    found = interval(differences)
    if found is None:
        return Score(metric.name, name, note="not computed: no row that both models have")
    p = sign_flip_p(differences)
    notes = [f"paired by row, sign-flip p = {p:.3g}", caution(found.n, found.low, found.high)]
    return replace(_filled(metric.name, name, found, "; ".join(filter(None, notes)), None), p=p)


def _filled(metric: str, model: str, found: Interval, note: str, chance: float | None) -> Score:
    return Score(metric, model, found.mean, found.n, chance, found.low, found.high, note)


def caution(n: int, low: float | None, high: float | None) -> str:
    """What to mind about an interval over `n` rows; empty = nothing."""
    if low == high:
        return "all rows alike: the interval cannot show how sure this is"
    return f"fewer than {FEW_ROWS} rows: the interval is rough" if n < FEW_ROWS else ""
