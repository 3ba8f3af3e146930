"""Scores for an estimated tempo, with their chance levels.

Accuracy 1 and 2 after Gouyon et al. 2006, IEEE TASLP 14(5). Tempi are beats per minute, > 0. The tolerance
is a share of the reference: 2 % here, as in text-to-music papers.

`mir_eval.tempo.detection` scores another task, MIREX's: two tempi of one song, 8 %, no Accuracy 2. Given one tempo
twice, it is Accuracy 1, except at the edge of the tolerance, where floating point decides: 122.4 BPM is wrong for
120.
"""

import math
from collections.abc import Sequence

TOLERANCE = 0.02
OCTAVES = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)
GUESS_RANGE_BPM = (40.0, 240.0)  # a guess is drawn from here, evenly in log tempo


def accuracy_1(reference_bpm: float, estimate_bpm: float, tolerance: float = TOLERANCE) -> bool:
    """Whether the estimate lies within `tolerance` of the reference, edges included."""
    return _near(reference_bpm, estimate_bpm, (1.0,), tolerance)


def accuracy_2(reference_bpm: float, estimate_bpm: float, tolerance: float = TOLERANCE) -> bool:
    """Like Accuracy 1, and also right at 2, 1/2, 3 and 1/3 times the reference."""
    return _near(reference_bpm, estimate_bpm, OCTAVES, tolerance)


def chance_1(reference_bpm: float, tolerance: float = TOLERANCE) -> float:
    """Accuracy 1 that a log-uniform guess in GUESS_RANGE_BPM reaches on average, 0..1."""
    return _chance(reference_bpm, (1.0,), tolerance)


def chance_2(reference_bpm: float, tolerance: float = TOLERANCE) -> float:
    """Accuracy 2 that a log-uniform guess in GUESS_RANGE_BPM reaches on average, 0..1."""
    return _chance(reference_bpm, OCTAVES, tolerance)


def _near(reference_bpm: float, estimate_bpm: float, factors: Sequence[float], tolerance: float) -> bool:
    for name, value in (("reference", reference_bpm), ("estimate", estimate_bpm)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} tempo must be a finite number of BPM above 0, got {value}")
    slack = 1e-9  # 122.4 / 120 - 1 is a hair above 0.02 in floating point
    return any(abs(estimate_bpm / (reference_bpm * factor) - 1) <= tolerance + slack for factor in factors)


def _chance(reference_bpm: float, factors: Sequence[float], tolerance: float) -> float:
    low, high = (math.log(edge) for edge in GUESS_RANGE_BPM)
    covered = 0.0
    for factor in factors:
        centre = reference_bpm * factor
        bottom = max(low, math.log(centre * (1 - tolerance)))
        top = min(high, math.log(centre * (1 + tolerance)))
        covered += max(0.0, top - bottom)
    return covered / (high - low)
