"""Sections by self-similarity: novelty along its diagonal with a checkerboard kernel (Foote 2000), labels by likeness.

Each half second becomes a vector of timbre (cepstrum of log-spaced bands) and harmony (12 chroma), standardised over
the song. A boundary is where the past resembles itself, the future resembles itself, and the two differ. The kernel
looks at many seconds and so says where a boundary lies to a second or two; it is then moved to the tenth of a second at
which the means before and after it differ most (change of mean by least squares, Truong et al. 2020).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.fft import dct

from luthier_analysis.facts import Section
from luthier_analysis.sound import ESSENTIA_RATE_HZ, SILENCE_DBFS, Sound, projected_power

FRAME, HOP = 8192, 4410
STEP_S = 0.5  # resolution of the self-similarity
HOPS_PER_STEP = round(STEP_S * ESSENTIA_RATE_HZ / HOP)
BANDS, CEPSTRUM = 40, 12
BAND_HZ = (60.0, 16_000.0)
CHROMA_HZ = (55.0, 2_000.0)
KERNEL_S = 8.0  # how far the kernel looks to each side
MIN_SECTION_S = 8.0
# Tuned on the twelve rendered songs of the songbook, whose sections are known; sections that are alike have a median
# cosine of 0.8, others of -0.4. The best of 160 other settings by half of the songs whose form is known
# (tests/bench/truth.py) gained 0.01 of F-measure on the other half: too little to tell from chance.
HARMONY_WEIGHT = 0.3  # beside timbre; with more every chord is a new section
SMOOTHED_STEPS = 5  # a few chords
MIN_STRENGTH = 0.15
NEAR_S = 1.5  # how far a boundary may be moved: less than half of MIN_SECTION_S, so that they stay in order
AROUND_S = (
    3.0  # of each side of a boundary, whose means are compared; of 16 pairs with NEAR_S the best on half of the songs
)
SAME_LABEL = 0.25  # cosine between the means of two sections from which on they share a label


@dataclass(frozen=True)
class Structure:
    """Sections, and the novelty (0..1) at each STEP_S of the song from which they come."""

    sections: tuple[Section, ...]
    novelty: np.ndarray

    def novelty_near(self, time_s: float, within_s: float = STEP_S) -> float:
        """Largest novelty within a distance of a moment."""
        first = max(0, int((time_s - within_s) / STEP_S))
        last = min(len(self.novelty), int((time_s + within_s) / STEP_S) + 2)
        return float(self.novelty[first:last].max(initial=0.0))


def structure(sound: Sound) -> Structure:
    """Sections that cover all of the sound, in order, and the novelty curve behind them."""
    power = projected_power(sound.mono, FRAME, HOP, np.concatenate([_band_basis(), _chroma_basis()], axis=1))
    vectors = _step_vectors(power)
    novelty = _novelty(vectors)
    distance = max(1, round(MIN_SECTION_S / STEP_S))
    inside = novelty.copy()
    inside[:distance] = inside[max(0, len(inside) - distance) :] = 0.0
    peaks = peaks_of(inside, MIN_STRENGTH, distance)
    edges = [0, *peaks, len(vectors)]
    labels = _labels([vectors[a:b].mean(axis=0) for a, b in pairwise(edges)])
    times = [0.0, *_moved([edge * STEP_S for edge in edges[1:-1]], power), sound.duration_s]
    strengths = [1.0, *(float(novelty[peak]) for peak in peaks)]
    sections = tuple(
        Section(start, end, label, min(1.0, strength))
        for start, end, label, strength in zip(times, times[1:], labels, strengths, strict=False)
    )
    return Structure(sections, novelty)


def _step_vectors(power: np.ndarray) -> np.ndarray:
    """(steps, 24) from the power of hops: smoothed over a few chords, each group standardised."""
    steps = max(1, len(power) // HOPS_PER_STEP)
    whole = np.resize(power, (steps * HOPS_PER_STEP, power.shape[1])).reshape(steps, -1, power.shape[1])
    timbre, harmony = _timbre_and_harmony(whole.mean(axis=1))
    return np.concatenate([_standard(smoothed(timbre)), HARMONY_WEIGHT * _standard(smoothed(harmony))], axis=1)


def smoothed(rows: np.ndarray) -> np.ndarray:
    """Each row's mean with its neighbours, SMOOTHED_STEPS in all; the ends are mirrored."""
    mirrored = np.pad(rows, ((SMOOTHED_STEPS // 2, SMOOTHED_STEPS // 2), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, SMOOTHED_STEPS, axis=0)
    means: np.ndarray = windows.mean(axis=-1)
    return means


def peaks_of(values: np.ndarray, height: float, distance: int) -> list[int]:
    """Where values of (n,) that reach `height` are higher than both neighbours, ascending; of those that are nearer to
    each other than `distance` the highest. As scipy.signal.find_peaks, whose import takes a second."""
    inner = values[1:-1]
    found = np.flatnonzero((inner > values[:-2]) & (inner > values[2:]) & (inner >= height)) + 1
    kept: list[int] = []
    for peak in sorted(found.tolist(), key=lambda peak: -values[peak]):
        if all(abs(peak - other) >= distance for other in kept):
            kept.append(peak)
    return sorted(kept)


def _timbre_and_harmony(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 12) of cepstrum and (n, 12) of chroma."""
    silence = 10 ** (SILENCE_DBFS / 10)
    timbre = dct(10 * np.log10(power[:, :BANDS] + silence), norm="ortho", axis=1)[:, 1 : CEPSTRUM + 1]
    chroma = power[:, BANDS:]
    return timbre, np.sqrt(chroma / (chroma.sum(axis=1, keepdims=True) + 12 * silence))


def _moved(times_s: list[float], power: np.ndarray) -> list[float]:
    """Each boundary at most NEAR_S away, where the means of AROUND_S before and after differ most, to a hop."""
    if not times_s:
        return []
    timbre, harmony = _timbre_and_harmony(power)
    vectors = np.concatenate([_standard(timbre), HARMONY_WEIGHT * _standard(harmony)], axis=1)
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0)])  # (hops + 1, 24)
    hop_s = HOP / ESSENTIA_RATE_HZ
    around, near = round(AROUND_S / hop_s), round(NEAR_S / hop_s)
    moved = []
    for time_s in times_s:
        middle = round(time_s / hop_s)
        first, last = max(0, middle - around), min(len(vectors), middle + around)
        at = np.arange(middle - near, middle + near + 1)
        before, after = at - first, last - at  # hops; MIN_SECTION_S from the ends of the song, so both are positive
        gap = (sums[at] - sums[first]) / before[:, None] - (sums[last] - sums[at]) / after[:, None]
        gain = before * after / (last - first) * (gap**2).sum(axis=1)
        moved.append(float(at[int(np.argmax(gain))] * hop_s))
    return moved


def _standard(columns: np.ndarray) -> np.ndarray:
    """Centred; scaled by the group's own spread, so that a dimension that hardly moves is not amplified."""
    centred: np.ndarray = columns - columns.mean(axis=0)
    scaled: np.ndarray = centred / (np.sqrt((centred**2).sum(axis=1).mean()) + 1e-9)
    return scaled


def _novelty(vectors: np.ndarray) -> np.ndarray:
    """(steps,) 0..1: within-likeness minus cross-likeness, halved, under a Gaussian taper."""
    half = round(KERNEL_S / STEP_S)
    unit = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)
    padded = np.pad(unit, ((half, half), (0, 0)), mode="edge")
    taper = np.exp(-0.5 * ((np.arange(2 * half) - half + 0.5) / (half / 2)) ** 2)
    sign = np.repeat([-1.0, 1.0], half)
    kernel = np.outer(taper * sign, taper * sign)
    kernel /= np.abs(kernel).sum()
    novelty = np.array(
        [(kernel * (near @ near.T)).sum() for near in (padded[t : t + 2 * half] for t in range(len(unit)))]
    )
    clipped: np.ndarray = np.clip(novelty, 0.0, 1.0)
    return clipped


def _labels(means: list[np.ndarray]) -> list[str]:
    """A, B, C … in order of appearance: a section takes the label of the earlier one that it resembles most."""
    first_of: list[np.ndarray] = []
    labels: list[str] = []
    for mean in means:
        likeness = [_cosine(mean, other) for other in first_of]
        best = int(np.argmax(likeness)) if likeness else -1
        if best < 0 or likeness[best] < SAME_LABEL:
            first_of.append(mean)
            best = len(first_of) - 1
        labels.append(_letter(best))
    return labels


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-9))


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"{_letter(index // 26 - 1)}{_letter(index % 26)}"


def _band_basis() -> np.ndarray:
    """(bins, BANDS) triangles, evenly spaced in log frequency."""
    hertz = np.fft.rfftfreq(FRAME, 1 / ESSENTIA_RATE_HZ)
    edges = np.geomspace(*BAND_HZ, BANDS + 2)
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0.0, None)


def _chroma_basis() -> np.ndarray:
    """(bins, 12): each bin between CHROMA_HZ goes to its nearest pitch class, C first, A = 440 Hz."""
    hertz = np.fft.rfftfreq(FRAME, 1 / ESSENTIA_RATE_HZ)
    basis = np.zeros((len(hertz), 12))
    in_range = (hertz >= CHROMA_HZ[0]) & (hertz <= CHROMA_HZ[1])
    pitch_class = (np.round(12 * np.log2(hertz[in_range] / 440)) + 9).astype(int) % 12
    basis[np.flatnonzero(in_range), pitch_class] = 1.0
    return basis
