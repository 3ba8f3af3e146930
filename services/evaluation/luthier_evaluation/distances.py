"""Fréchet distances between two sets of audio, from the vectors of an embedder (Heusel 2017; Kilgour 2019).

Each set is taken as a Gaussian: mean and covariance of all its windows. Both must have more windows than dimensions, or
the covariance says nothing. Beside a distance stands its floor: what two halves of the reference have between them.

- `frechet`: the distance of all windows.
- `frechet_infinity`: extrapolated to endlessly many windows (Chong and Forsyth 2020; Gui 2024): the distance is biased
  upwards by about 1 / windows, so a line through distances of growing shares of the windows is read at 1 / windows = 0.
- `frechet_of_piece`: of one piece against the reference (Gui 2024), to find the pieces furthest from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Doubles = NDArray[np.float64]
SEED: Final = 20_240_921
HALVINGS: Final = 5  # of the reference, for its floor: their mean
SHARES: Final = 15  # distances through which the line goes
LEAST_SHARE: Final = 0.3  # of the windows


@dataclass(frozen=True)
class Gaussian:
    """Mean (d) and covariance (d, d) of `windows` vectors."""

    mean: Doubles
    covariance: Doubles
    windows: int


class Moments:
    """Sums of vectors of `dimensions` values, from which their Gaussian follows: a set of any length in bounded memory.

    Sums are taken about the first vector, so that nothing is lost where a mean is far from 0.
    """

    def __init__(self, dimensions: int) -> None:
        self.windows = 0
        self._about = np.zeros(dimensions)
        self._sum = np.zeros(dimensions)
        self._products = np.zeros((dimensions, dimensions))

    @property
    def needed(self) -> int:
        """The least number of windows that have a Gaussian."""
        return self._sum.size + 1

    def add(self, vectors: Vectors) -> None:
        """Vectors (windows, dimensions)."""
        if not self.windows and len(vectors):
            self._about = vectors[0].astype(np.float64)
        about = vectors.astype(np.float64) - self._about
        self.windows += len(vectors)
        self._sum += about.sum(axis=0)
        self._products += about.T @ about

    def gaussian(self) -> Gaussian | None:
        """None of fewer windows than `needed`."""
        if self.windows < self.needed:
            return None
        mean = self._sum / self.windows
        scatter = self._products - self.windows * np.outer(mean, mean)
        return Gaussian(self._about + mean, scatter / (self.windows - 1), self.windows)


@dataclass(frozen=True)
class Reference:
    """What a set of audio is compared with: its Gaussian, and the distance between two halves of it; None = too few."""

    gaussian: Gaussian | None
    floor: float | None
    windows: int
    needed: int


def reference_of(pieces: Iterable[Vectors], count: int, dimensions: int) -> Reference:
    """Of `count` pieces of audio, each the vectors (windows, dimensions) of its windows, which stay in one half."""
    dice = np.random.default_rng(SEED)
    sides = np.array([dice.permutation(count) % 2 for _ in range(HALVINGS)])  # (halvings, pieces)
    whole, halves = Moments(dimensions), [(Moments(dimensions), Moments(dimensions)) for _ in range(HALVINGS)]
    for index, vectors in enumerate(pieces):
        whole.add(vectors)
        for halving, side in zip(halves, sides[:, index], strict=True):
            halving[side].add(vectors)
    between = [(one.gaussian(), other.gaussian()) for one, other in halves]
    distances = [frechet(one, other) for one, other in between if one and other]
    floor = float(np.mean(distances)) if len(distances) == HALVINGS else None
    return Reference(whole.gaussian(), floor, whole.windows, whole.needed)


def frechet(one: Gaussian, other: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), 0 or more.

    The trace of the root is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: no
    complex numbers, and what rounding makes negative is 0.
    """
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    between = np.linalg.eigvalsh(root @ other.covariance @ root).clip(min=0)
    traces = float(np.trace(one.covariance) + np.trace(other.covariance))
    return _distance(one.mean - other.mean, traces, between)


def frechet_infinity(vectors: Vectors, reference: Gaussian) -> float | None:
    """The distance extrapolated to endlessly many windows of `vectors` (windows, d); None where they are too few for a
    line. It may lie below 0 by chance, where both sets are alike.
    """
    windows, dimensions = vectors.shape
    least = max(dimensions + 1, round(LEAST_SHARE * windows))
    if least > 0.9 * windows:
        return None
    dice = np.random.default_rng(SEED)
    counts = np.linspace(least, windows, SHARES).astype(int)
    found = []
    for count in counts:
        moments = Moments(dimensions)
        moments.add(vectors[dice.choice(windows, count, replace=False)])
        drawn = moments.gaussian()
        assert drawn  # least is enough
        found.append(frechet(drawn, reference))
    _, intercept = np.polyfit(1 / counts, found, 1)
    return float(intercept)


def frechet_of_piece(vectors: Vectors, reference: Gaussian) -> float | None:
    """The distance of one piece, vectors (windows, d), of however few windows: pieces of one length can be ranked by
    it, and it is no score. None of fewer than two windows.
    """
    if len(vectors) < 2:
        return None
    wide = vectors.astype(np.float64)
    mean = wide.mean(axis=0)
    about = (wide - mean) / np.sqrt(len(wide) - 1)  # its covariance is about' about, of rank windows - 1 at most
    between = np.linalg.eigvalsh(about @ reference.covariance @ about.T).clip(min=0)
    traces = float((about * about).sum() + np.trace(reference.covariance))
    return _distance(mean - reference.mean, traces, between)


def _distance(means: Doubles, traces: float, between: Doubles) -> float:
    return max(0.0, float(means @ means) + traces - 2 * float(np.sqrt(between).sum()))
