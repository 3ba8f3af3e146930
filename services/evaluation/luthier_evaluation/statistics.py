"""How sure a score is, and what the same output scores without regard to the prompt.

The interval and the test are scipy's. The generator's seed is fixed, so that the same rows give the same numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from scipy import stats

T = TypeVar("T")
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 4000  # of the bootstrap
SIGN_FLIPS: Final = 20_000  # up to 14 rows that is more than there are: the test is exact
BATCH: Final = 200  # resamples at a time: bounds memory with thousands of rows
SEED: Final = 20_240_921  # any fixed number
PERMUTATIONS: Final = 9999  # of the prompts; the smallest p is then 0.0001
MAX_PAIRED_ROWS: Final = 1000  # of the permutation baseline: beyond, time grows and the estimate stays


@dataclass(frozen=True)
class Interval:
    """Mean of `n` values, and the 95 % interval of the mean, in the values' unit."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float]) -> Interval | None:
    """Mean over rows with its percentile bootstrap interval (Efron 1979); None without rows.

    Not BCa, scipy's default: it has no value where all rows are alike, as scores of few rows often are, and covers
    shares of 8 to 172 rows no better. One row, or rows that are all alike, have an interval without width.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:  # scipy refuses
        return Interval(float(data[0]), float(data[0]), float(data[0]), 1) if data.size else None
    found = stats.bootstrap(
        (data,), np.mean, n_resamples=RESAMPLES, batch=BATCH, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    low, high = found.confidence_interval
    return Interval(float(data.mean()), float(low), float(high), data.size)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of paired differences: how often their sum is as far from 0 when each sign is drawn anew.

    Fisher's randomisation test: exact up to 14 rows that differ, 20,000 draws beyond. 1 where at most one row differs.
    """
    data = np.asarray([value for value in differences if value], dtype=np.float64)
    if data.size < 2:  # scipy refuses; both signs of one row are equally far
        return 1.0

    # One-sided on the distance from 0: less noise than scipy's two-sided p, twice the smaller tail. Rounded, because
    # scipy takes sums as equal within a share of what was observed, and near 0 a share is less than what adding 0.2
    # and 0.3 loses.
    def distance(flipped: np.ndarray, axis: int) -> np.ndarray:
        distances: np.ndarray = np.abs(flipped.sum(axis=axis)).round(9)
        return distances

    found = stats.permutation_test(
        (data,), distance, permutation_type="samples", vectorized=True, n_resamples=SIGN_FLIPS, batch=BATCH,
        alternative="greater", rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return float(found.pvalue)


def permutation_baseline(
    references: Sequence[T], estimates: Sequence[T | None], score: Callable[[T, T], float]
) -> float | None:
    """Mean score of each estimate against every *other* row's reference; an estimate of None scores 0.

    A model that makes the same spread of music without regard to the prompt reaches this. None below two rows.
    """
    rows = list(zip(references, estimates, strict=True))
    if len(rows) > MAX_PAIRED_ROWS:
        chosen = np.random.default_rng(SEED).choice(len(rows), MAX_PAIRED_ROWS, replace=False)
        rows = [rows[int(i)] for i in chosen]
    if len(rows) < 2:
        return None
    total = sum(
        score(reference, estimate)
        for i, (reference, _) in enumerate(rows)
        for j, (_, estimate) in enumerate(rows)
        if i != j and estimate is not None
    )
    return total / (len(rows) * (len(rows) - 1))


def permutation_p(
    references: Sequence[T], estimates: Sequence[T | None], score: Callable[[T, T], float]
) -> float | None:
    """How often the estimates score as well or better when the references are dealt out anew: a permutation test of
    independence, one-sided, PERMUTATIONS draws. 1 where all references are alike; None without rows.
    """
    if not references:
        return None
    kinds = list(dict.fromkeys(references))
    number = {kind: position for position, kind in enumerate(kinds)}
    rows = np.array([number[reference] for reference in references])
    held = np.array(
        [[0.0 if found is None else float(score(kind, found)) for kind in kinds] for found in estimates]
    )  # (rows, kinds): each estimate against each reference
    each = np.arange(rows.size)
    observed = held[each, rows].sum().round(9)
    dice = np.random.default_rng(SEED)
    reached = sum(held[each, dice.permutation(rows)].sum().round(9) >= observed for _ in range(PERMUTATIONS))
    return float(1 + reached) / (1 + PERMUTATIONS)


def paired_interval(differences: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean of paired differences; None without rows.

    Of rows that are right or wrong (differences -1, 0, 1): Agresti and Min 2005, half a pair added to each of the four
    cells, so that rows that are all alike leave an interval of their number. Else the bootstrap.
    """
    data = np.asarray(differences, dtype=np.float64)
    if not data.size:
        return None
    if not np.isin(data, (-1, 0, 1)).all():
        return interval(differences)
    rows, better, worse = data.size + 2, (data > 0).sum() + 0.5, (data < 0).sum() + 0.5
    middle = (better - worse) / rows
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((better + worse) / rows - middle**2) / np.sqrt(rows)
    return Interval(float(data.mean()), float(middle - half), float(middle + half), data.size)
