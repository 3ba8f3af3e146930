"""Levels: every stem to a loudness of its own, the sum to the mix's; nothing clips and silence stays silence.

As the paper does: each stem is normalised to an integrated loudness (BS.1770-4) drawn uniformly around a mean, so
that no two renders of a corpus favour the same balance; the sum is normalised again. A peak ceiling bounds both:
where loudness asks for more, the level is what the ceiling allows and the response says what was reached.
"""

import random
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.audio import peak
from luthier_music.loudness import gated_loudness_lufs

PEAK_CEILING_DBFS: Final = -1.0
_MAX_GAIN_DB: Final = 60.0  # what is quieter than this is noise, not music


@dataclass(frozen=True)
class Levels:
    """What a request asks: mean loudness of stems, largest departure from it in dB, loudness of the mix."""

    stem_loudness_lufs: float = -24.0
    stem_jitter_db: float = 3.0
    mix_loudness_lufs: float = -16.0


def stem_targets_lufs(levels: Levels, stems: int, seed: int) -> list[float]:
    """A target for each stem, the same for the same seed."""
    draw = random.Random(seed)
    return [levels.stem_loudness_lufs + draw.uniform(-1.0, 1.0) * levels.stem_jitter_db for _ in range(stems)]


def gain_to(loudness_lufs: float, target_lufs: float, highest: float) -> float:
    """The linear gain that brings `loudness_lufs` to the target, or the peak `highest` to the ceiling if less.

    1.0 for silence.
    """
    if not np.isfinite(loudness_lufs) or highest <= 0.0:
        return 1.0
    wanted = db_to_linear(min(target_lufs - loudness_lufs, _MAX_GAIN_DB))
    return min(wanted, db_to_linear(PEAK_CEILING_DBFS) / highest)


def level(energies: NDArray[np.float64], samples: NDArray[np.float32], target_lufs: float) -> tuple[float, float]:
    """The gain that levels `samples` whose hop energies are known, and the loudness that it reaches in LUFS."""
    loudness = gated_loudness_lufs(energies)
    gain = gain_to(loudness, target_lufs, peak(samples))
    return gain, loudness + linear_to_db(gain)


def db_to_linear(db: float) -> float:
    return float(10.0 ** (db / 20.0))


def linear_to_db(linear: float) -> float:
    """-inf for 0."""
    return float(20.0 * np.log10(linear)) if linear > 0 else -np.inf
