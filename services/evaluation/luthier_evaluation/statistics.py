"""How sure a score is, and what one gets without listening to the prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")
RESAMPLES = 4000
CHUNK = 200  # resamples drawn at a time: bounds memory with thousands of rows
SEED = 20_240_921  # any fixed number: the same rows always give the same interval
CONFIDENCE = 0.95
EXACT_ROWS = 12
FLIPS = 20_000
MOST_PAIRED = 1000  # rows that the deaf level pairs with each other; more add nothing but time


@dataclass(frozen=True)
class Interval:
    """Mean of `n` values, and the 95 % percentile bootstrap interval of the mean (Efron 1979)."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float]) -> Interval | None:
    """Mean and interval over rows; None without any. One row gives no width, nor do rows that are all alike."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        return None
    generator = np.random.default_rng(SEED)
    draws = [data[generator.integers(0, data.size, (CHUNK, data.size))].mean(axis=1) for _ in range(RESAMPLES // CHUNK)]
    low, high = np.quantile(np.concatenate(draws), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(data.mean()), float(low), float(high), int(data.size))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of paired differences: how often the mean is as far from 0 when each sign is drawn anew.

    Exact for few rows (Fisher's randomisation test), 20,000 draws for many. 1 where no row differs.
    """
    data = np.asarray([value for value in differences if value], dtype=np.float64)
    if data.size == 0:
        return 1.0
    if data.size <= EXACT_ROWS:
        bits = np.arange(2**data.size)[:, np.newaxis] >> np.arange(data.size) & 1
        return float(_as_far((1 - 2 * bits) @ data, data).mean())
    generator = np.random.default_rng(SEED)
    signs = (generator.integers(0, 2, (CHUNK, data.size)) * 2 - 1 for _ in range(FLIPS // CHUNK))
    found = sum(int(_as_far(drawn @ data, data).sum()) for drawn in signs)
    return (found + 1) / (FLIPS + 1)


def _as_far(sums: np.ndarray, data: np.ndarray) -> np.ndarray:
    return np.abs(sums) >= abs(data.sum()) - 1e-9


def deaf_level(references: Sequence[T], estimates: Sequence[T | None], score: Callable[[T, T], float]) -> float | None:
    """Mean score when each estimate is held against every *other* row's reference.

    A model that makes the same spread of music but is deaf to the prompt reaches this; an estimate of None scores 0.
    None below two rows.
    """
    rows = list(zip(references, estimates, strict=True))
    if len(rows) > MOST_PAIRED:
        chosen = np.random.default_rng(SEED).choice(len(rows), MOST_PAIRED, replace=False)
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
