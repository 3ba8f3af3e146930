"""Numbers in words: percentages, intervals, and what may be concluded from them."""

from collections import Counter
from collections.abc import Mapping, Sequence

from luthier_evaluation.measurement import Measurement
from luthier_evaluation.metrics import METRICS
from luthier_evaluation.plan import Plan
from luthier_evaluation.scores import Score, difference_name
from luthier_music.keys import Key, weighted_score

RELATIONS = {1.0: "exact", 0.5: "a fifth above", 0.3: "relative", 0.2: "parallel", 0.0: "other"}

SIGNIFICANT = 0.05


def number(value: float | None, unit: str, *, signed: bool = False) -> str:
    """`62.5 %` for shares, `−14.2 LUFS`, else two decimals and the unit; a dash for None. Spaces do not break."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    digits = 1 if unit in ("share", "LUFS") else 2
    text = f"{100 * value:{sign}.1f} %" if unit == "share" else f"{value:{sign}.{digits}f} {unit}"
    return text.replace("-", "−").replace(" ", "\N{NO-BREAK SPACE}")


def with_interval(score: Score, unit: str, *, signed: bool = False) -> str:
    """`62.5 % (30.0 % to 90.0 %)`."""
    if score.value is None:
        return "not computed"
    low, high = (number(edge, unit, signed=signed) for edge in (score.low, score.high))
    return f"{number(score.value, unit, signed=signed)} ({low} to {high})"


def summary(plan: Plan, table: Sequence[Score]) -> list[str]:
    """A sentence for each gate metric that was computed: value, chance, and what the comparison says."""
    cells = {(score.metric, score.model): score for score in table}
    sentences = []
    for metric in METRICS:
        score = cells[metric.name, plan.candidate.label]
        if not metric.gate or score.value is None:
            continue
        text = f"{metric.title}: {plan.candidate.label} scores {number(score.value, metric.unit)} on {score.n} rows"
        if score.chance is not None:
            text += f", chance {number(score.chance, metric.unit)}{_beats_chance(score)}"
        difference = cells.get((metric.name, difference_name(plan)))
        if difference and difference.value is not None and plan.baseline:
            text += f"; against {plan.baseline.label} {with_interval(difference, metric.unit, signed=True)}"
            text += f", {_conclusion(difference)}"
        sentences.append(text + ".")
    return sentences


def key_outcomes(plan: Plan, made: Mapping[tuple[str, int], Measurement]) -> list[tuple[str, list[tuple[int, float]]]]:
    """(relation, [(rows, share) per model]) over the rows that ask for a key; empty when none does."""
    asked = [(index, row.key) for index, row in enumerate(plan.suite.rows) if row.key]
    counts = []
    for model in plan.models:
        heard = [(key, made[model.label, i].key) for i, key in asked if not made[model.label, i].error]
        counts.append(Counter(relation(key, found) for key, found in heard))
    names = [*RELATIONS.values(), "no key found"]
    if not asked:
        return []
    return [(name, [(c[name], c[name] / max(1, c.total())) for c in counts]) for name in names]


def relation(asked: Key, made: Key | None) -> str:
    """How the key made stands to the key asked for, in MIREX's terms."""
    return RELATIONS[weighted_score(asked, made)] if made else "no key found"


def _beats_chance(score: Score) -> str:
    assert score.low is not None and score.chance is not None  # noqa: PT018
    return "" if score.low > score.chance else " (within its interval: no more than chance is shown)"


def _conclusion(difference: Score) -> str:
    assert difference.p is not None and difference.value is not None  # noqa: PT018
    if difference.p >= SIGNIFICANT:
        return f"not told apart by these rows (p = {difference.p:.2g})"
    return f"{'better' if difference.value > 0 else 'worse'} beyond chance (p = {difference.p:.2g})"
