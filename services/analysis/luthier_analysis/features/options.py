"""What a caller or operator may choose about features."""

from dataclasses import dataclass
from pathlib import Path

TEMPO_ESTIMATORS = ("essentia", "deeprhythm")


@dataclass(frozen=True)
class Weights:
    """A file of weights that the operator supplies, with the SHA-256 (lowercase hex) that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Options:
    """tempo_estimator: one of TEMPO_ESTIMATORS. deeprhythm: its weights; None = it cannot speak."""

    tempo_estimator: str = "essentia"
    deeprhythm: Weights | None = None
