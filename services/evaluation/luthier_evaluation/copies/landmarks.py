"""Landmarks of audio: the spectral peaks by which a passage is found again.

A recording is a set of points on a plane of time and log frequency (Wang, "An industrial-strength audio search
algorithm", ISMIR 2003; the frequency axis is that of Six and Leman's Panako, ISMIR 2014). A pitch shift adds the same
to all frequencies, a stretch multiplies all times, and other music adds points and hides some.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy.ndimage import uniform_filter1d

from luthier_kit.rpc import InvalidRequest
from luthier_music.audio_rate import low_pass, mean_of_channels, resampled
from luthier_music.native import LEVELS, Bands, decimated

Floats = NDArray[np.float32]
Single = TypeVar("Single", np.float32, np.uint8)

RATE_HZ: Final = 11_025
"""All is heard at this rate: landmarks lie below 4.6 kHz, and a quarter of 44.1 kHz is cheap to make."""
FRAME: Final = 2048
"""Samples of a Fourier transform, 186 ms: two notes a semitone apart are two peaks from 180 Hz on."""
HOP: Final = 256
FRAME_S: Final = HOP / RATE_HZ
"""23 ms from a frame to the next."""
BINS_PER_SEMITONE: Final = 3
LOWEST_HZ: Final = 180.0
BINS: Final = 168  # 56 semitones, to 4.57 kHz
MIN_DURATION_S: Final = 2.0
MAX_DURATION_S: Final = 600.0
PEAKS_PER_S: Final = 50
"""Peaks kept of a second, at most."""

_SMOOTH_BINS: Final = 31  # 10 semitones: the slope of a spectrum, as equalisers and instruments give it
_PAST_FRAMES: Final = 13  # 0.3 s
_PAST_SHARE: Final = 0.5  # of the level before, taken off: a note counts most where it begins
_PEAK_FRAMES: Final = 4  # a peak is the highest of 9 frames and 7 bins around it
_PEAK_BINS: Final = 3
_PEAK_HEIGHT: Final = 0.5  # log2 of power above its surroundings
_FLOOR: Final = 1e-6  # of the loudest: 60 dB below it is silence
_SILENCE: Final = 1e-8  # power of a bin, full scale 1 gives about 1e5: below, there is nothing to hear
_LOWEST: Final = np.float32(np.log2(_SILENCE))


class NoLandmarks(InvalidRequest):
    """This audio or these bytes have no landmarks."""


@dataclass(frozen=True)
class Landmarks:
    """The peaks of one piece of audio, in the order of time, and how long it is.

    `frames` (n,) uint16: time in FRAME_S. `bins` (n,) float32: log frequency in thirds of a semitone above LOWEST_HZ,
    0 to BINS. `ranks` (n,) uint8: 0 = the strongest of its second. `levels` (n,) uint8: power, in LEVEL_STEPS.
    `duration_s`: 2 to 600. Silence has no peaks.
    """

    frames: NDArray[np.uint16]
    bins: Floats
    ranks: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    duration_s: float

    @property
    def frame_count(self) -> int:
        return round(self.duration_s / FRAME_S) + 1

    def strongest(self, per_s: int) -> "Landmarks":
        """Only so many of each second."""
        kept = self.ranks < per_s
        return Landmarks(self.frames[kept], self.bins[kept], self.ranks[kept], self.levels[kept], self.duration_s)

    def to_bytes(self) -> bytes:
        """A safetensors file, 6 bytes a peak, 9 kB for 30 s; the same landmarks give the same bytes."""
        return save(
            {
                "frames": self.frames,
                "bins": np.rint(self.bins * STEPS).astype(np.uint16),
                "ranks": self.ranks,
                "levels": self.levels,
                "duration_s": np.array([self.duration_s], np.float64),
                "version": np.array([VERSION], np.int32),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Landmarks":
        """What `to_bytes` wrote. NoLandmarks where it is something else, or of another version."""
        try:
            arrays = load(data)
            frames, bins, ranks, levels = (arrays[name] for name in ("frames", "bins", "ranks", "levels"))
            duration_s, version = (arrays[name].reshape(1)[0] for name in ("duration_s", "version"))
        except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise NoLandmarks(f"landmarks: these bytes are none ({type(error).__name__})") from error
        if version != VERSION:
            raise NoLandmarks(f"landmarks: version {version}, this is version {VERSION}: compute them again")
        if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
            raise NoLandmarks(f"landmarks: duration_s must be {MIN_DURATION_S:g} to {MAX_DURATION_S:g}: {duration_s}")
        arrays_of = (frames, bins, ranks, levels)
        types = [array.dtype for array in arrays_of] == [np.uint16, np.uint16, np.uint8, np.uint8]
        if not (types and frames.ndim == 1 and all(array.shape == frames.shape for array in arrays_of)):
            raise NoLandmarks("landmarks: frames, bins, ranks, levels must be (n,) of uint16, uint16, uint8, uint8")
        if frames.size and (
            np.any(np.diff(frames.astype(np.int32)) < 0)
            or frames[-1] > duration_s / FRAME_S + 1
            or bins.max() > (BINS - 1) * STEPS
            or levels.max() >= LEVELS
        ):
            raise NoLandmarks("landmarks: frames must ascend within the duration, bins and levels lie on their axes")
        return cls(frames, (bins / STEPS).astype(np.float32), ranks, levels, float(duration_s))


VERSION: Final = 3
"""Goes up whenever the same audio gives other landmarks: stored ones are then computed again."""
STEPS: Final = 64
"""Of a bin, in which bins are kept."""
LEVEL_STEPS: Final = 2
"""Of a doubling of power, 1.5 dB each, in which levels are kept: from _SILENCE on, below LEVELS."""


@dataclass(frozen=True)
class Heard:
    """Audio in which clips are looked for: its landmarks, and how loud it is everywhere.

    `levels` (BINS, frames) uint8: power in LEVEL_STEPS, the highest of a frame and of those beside it.
    """

    landmarks: Landmarks
    levels: NDArray[np.uint8]


def landmarks_of(samples: Floats, sample_rate_hz: int) -> Landmarks:
    """The landmarks of audio (frames,) or (frames, channels), full scale 1, of 2 to 600 s; channels are averaged.

    The same samples give the same landmarks. Silence gives none. NoLandmarks (an InvalidRequest) where the audio is too
    short or too long, is not finite, or has another shape.
    """
    return heard(samples, sample_rate_hz).landmarks


def heard(samples: Floats, sample_rate_hz: int) -> Heard:
    """The landmarks of audio, as `landmarks_of`, and its levels."""
    if not 1000 <= sample_rate_hz <= 768_000:
        raise NoLandmarks(f"sample_rate_hz must be 1000 to 768000: got {sample_rate_hz}")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= 64):
        raise NoLandmarks(f"samples must be (frames,) or (frames, 1 to 64 channels): got the shape {samples.shape}")
    duration_s = len(samples) / sample_rate_hz
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise NoLandmarks(f"audio must last {MIN_DURATION_S:g} to {MAX_DURATION_S:g} s: got {duration_s:.3f} s")
    slow = _slow(samples.astype(np.float32, copy=False), sample_rate_hz)
    if not np.isfinite(slow).all():
        raise NoLandmarks("samples must be finite: NaN or infinity among them")
    levels = _levels(slow)
    frames, bins, heights = _peaks(_contrast(levels))
    second = (frames * HOP) // RATE_HZ
    order = np.lexsort((-heights, second))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(second[order], second[order])
    kept = ranks < PEAKS_PER_S
    frames, bins = frames[kept], bins[kept]
    steps = np.clip(np.rint((levels - _LOWEST) * np.float32(LEVEL_STEPS)), 0, LEVELS - 1).astype(np.uint8)
    at_peaks = steps[np.rint(bins).astype(np.int64), frames]
    bins = (np.rint(bins * STEPS) / STEPS).astype(np.float32)  # as stored
    landmarks = Landmarks(frames.astype(np.uint16), bins, ranks[kept].astype(np.uint8), at_peaks, duration_s)
    return Heard(landmarks, _highest(steps, 1))


def _slow(samples: Floats, sample_rate_hz: int) -> Floats:
    """The mean of the channels at RATE_HZ. 44.1 kHz, which clips and outputs have, has a filter of its own, which costs
    a third: flat to 0.01 dB up to 4.57 kHz, and 60 dB down where what folds below that lies."""
    if sample_rate_hz == 4 * RATE_HZ:
        return decimated(samples, _FOUR_TIMES, 4)
    mono = samples if samples.ndim == 1 else mean_of_channels(samples)
    return resampled(mono, sample_rate_hz, RATE_HZ)


@lru_cache(maxsize=1)
def _filters() -> tuple[Bands, Floats]:
    """Triangles over power, a bin wide, or as wide as the transform resolves; its window."""
    centres = LOWEST_HZ * 2 ** (np.arange(-1, BINS + 1) / (12 * BINS_PER_SEMITONE))
    hz = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)
    low = np.minimum(centres[:-2], centres[1:-1] - hz[1])[:, None]
    high = np.maximum(centres[2:], centres[1:-1] + hz[1])[:, None]
    middle = centres[1:-1][:, None]
    triangles = np.clip(np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)), 0, None)
    within = triangles > 0  # of each some neighbours
    starts = np.concatenate([[0], np.cumsum(within.sum(axis=1))]).astype(np.int32)
    bands = Bands(len(hz), within.argmax(axis=1).astype(np.int32), starts, triangles[within].astype(np.float32))
    return bands, np.hanning(FRAME + 1)[:-1].astype(np.float32)


_BLOCK: Final = 64  # frames at a time: their transforms stay in the cache


def _levels(mono: Floats) -> Floats:
    """log2 of power (frames, BINS), nothing below 60 dB under the loudest."""
    bands, window = _filters()
    padded = np.pad(mono, (FRAME // 2, FRAME // 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    power = np.empty((BINS, len(windows)), np.float32)
    for start in range(0, len(windows), _BLOCK):
        spectra = scipy.fft.rfft(windows[start : start + _BLOCK] * window, axis=1)
        bands.powers(spectra, power[:, start : start + _BLOCK])
    floor = max(_loudest(power) * _FLOOR, _SILENCE)
    levels: Floats = np.log2(power + np.float32(floor))
    return levels


def _loudest(power: Floats) -> float:
    """Half a percent of all power lies above: np.percentile(power, 99.5), of the few values that are that high."""
    some = power.ravel()[::16]
    above = np.partition(some, len(some) * 49 // 50)[len(some) * 49 // 50]
    high = power[power >= above]
    if len(high) < 0.01 * power.size:  # the sample was a poor one
        return float(np.percentile(power, 99.5))
    place = 0.995 * (power.size - 1) - (power.size - len(high))
    return float(np.quantile(high, place / (len(high) - 1)))


def _highest(values: NDArray[Single], reach: int) -> NDArray[Single]:
    """Along the last axis, the highest of so many values before, at, and after each."""
    held = np.pad(values, ((0, 0), (reach, reach)), mode="edge")
    width, wanted = 1, 2 * reach + 1
    while width < wanted:  # of so many values each is the highest already
        more = min(width, wanted - width)
        held = np.maximum(held[:, :-more], held[:, more:])
        width += more
    return held


def _contrast(levels: Floats) -> Floats:
    """How far each point (BINS, frames) stands above its surroundings and above what was there before."""
    slope = uniform_filter1d(levels, _SMOOTH_BINS, axis=0, mode="nearest")
    above: Floats = levels - slope
    before = uniform_filter1d(above, _PAST_FRAMES, axis=1, mode="nearest", origin=_PAST_FRAMES // 2)
    above -= np.float32(_PAST_SHARE) * before
    return above


def _peaks(contrast: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Frames, bins between the bins by a parabola, and heights of the local maxima, in the order of time."""
    highest = _highest(_highest(contrast.T, _PEAK_BINS).T, _PEAK_FRAMES)
    is_peak = (contrast == highest) & (contrast > _PEAK_HEIGHT)
    is_peak[[0, -1]] = False
    frames, bins = np.nonzero(is_peak.T)
    below, at, above = contrast[bins - 1, frames], contrast[bins, frames], contrast[bins + 1, frames]
    vertex = 0.5 * (below - above) / np.minimum(below - 2 * at + above, -1e-6)
    return frames, (bins + np.clip(vertex, -0.5, 0.5)).astype(np.float32), at


_FOUR_TIMES: Final = low_pass(89, RATE_HZ / 2, 4 * RATE_HZ, 5.7)
