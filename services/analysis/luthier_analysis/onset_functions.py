"""Onset detection functions: how much begins in each frame of a signal, by six published measures.

They are what essentia's OnsetRate, BeatTrackerDegara and BeatTrackerMultiFeature work out inside, each for itself, and
are equal to theirs (tests/analysis/test_rhythm.py). There they take most of the time; here a tenth of it: the five that
beats are tracked by share one spectrogram, no phase is worked out as an angle, since only its turn from frame to frame
counts, and many frames are taken at a time. What is then made of them, onsets and beats, is essentia's.

* High frequency content (Brossier et al. 2004) and complex domain difference (Bello et al. 2004).
* Energy flux (Laroche 2003) and mel flux (Ellis 2007).
* Beat emphasis (Davies, Plumbley and Eck 2009) and modified information gain (Hainsworth and Macleod 2003).

Frames begin with the first sample; the last one reaches the end, filled up with zeros.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft

from luthier_analysis.engine import algorithms
from luthier_analysis.sound import ESSENTIA_RATE_HZ

ONSET_FRAME, BEAT_FRAME = 1024, 2048  # samples at 44.1 kHz
HOP: Final = 512  # of onsets, beat emphasis and information gain
COARSE_HOP: Final = 1024  # of the other functions that beats are tracked by

_BLOCK: Final = 64  # frames at a time: what is made of them stays in the processor's cache
_SILENT_POWER: Final = 1e-10  # mean square of a frame below which ...
_NOISE: Final = 1e-5  # ... noise of this amplitude is added where the hop is COARSE_HOP, as in essentia
_NOISES: Final = 16  # one after the other
_MELS, _MEL_TOP_HZ, _MEL_FLOOR = 40, 4000.0, 1e-10
_GAIN_HZ: Final = (40.0, 5000.0)
_GAIN_WEIGHTS: Final = (1.0, 0.82, 0.64, 0.46, 0.28)  # of frames before and after a moment, the nearest first
_ERBS, _ERB_LOWEST_HZ = 40, 80.0
_DECIDING_ERB: Final = 24
_SMOOTHED: Final = 17  # frames
_LONGEST_PERIOD: Final = 512  # hops
_COMMON_PERIOD: Final = 43  # hops: 120 BPM
_SHORTEST_PERIOD: Final = 4  # hops
_COMBS: Final = 4  # a period and its multiples

Function = np.ndarray  # (frames,) float32, not negative


@dataclass(frozen=True)
class BeatFunctions:
    """What beats are tracked by: the first three at COARSE_HOP, the others at HOP."""

    complex_difference: Function
    energy_flux: Function
    mel_flux: Function
    beat_emphasis: Function
    information_gain: Function


def onset_functions(signal: np.ndarray) -> tuple[Function, Function]:
    """High frequency content and complex domain difference of (n,) samples, n > 0, at ONSET_FRAME and HOP."""
    count = frame_count(len(signal), ONSET_FRAME, HOP)
    content, difference = np.empty((2, count), np.float32)
    bins = np.arange(ONSET_FRAME // 2 + 1, dtype=np.float32)
    for block in _blocks(signal, ONSET_FRAME, HOP, count, before=2):
        spectra = block.spectra()
        content[block.own] = spectra.magnitude[2:] @ bins
        difference[block.own] = np.sqrt(_differences(spectra)).sum(axis=1)
    return content, difference


def complex_difference(signal: np.ndarray) -> Function:
    """Complex domain difference of (n,) samples, n > 0, at BEAT_FRAME and COARSE_HOP."""
    count = frame_count(len(signal), BEAT_FRAME, COARSE_HOP)
    difference = np.empty(count, np.float32)
    for block in _blocks(signal, BEAT_FRAME, COARSE_HOP, count, before=2):
        difference[block.own] = np.sqrt(_differences(block.with_noise().spectra())).sum(axis=1)
    return difference


def beat_functions(signal: np.ndarray) -> BeatFunctions:
    """All that beats are tracked by, of (n,) samples, n > 0."""
    count = frame_count(len(signal), BEAT_FRAME, HOP)
    coarse_count = frame_count(len(signal), BEAT_FRAME, COARSE_HOP)
    every = COARSE_HOP // HOP
    frames = max(count, every * (coarse_count - 1) + 1)  # the last coarse frame may begin behind the last fine one
    low, high = (round(hertz * BEAT_FRAME / ESSENTIA_RATE_HZ) for hertz in _GAIN_HZ)
    in_erbs = np.empty((frames, _ERBS), np.float32)
    gain = np.empty(frames, np.float32)
    recent = np.zeros((2 * len(_GAIN_WEIGHTS), high + 1 - low), np.float32)  # magnitudes of the frames before a block
    difference, power = np.empty((2, coarse_count), np.float32)
    in_mels = np.empty((coarse_count, _MELS), np.float32)
    for block in _blocks(signal, BEAT_FRAME, HOP, frames, before=2 * every):
        fine = block.spectra()
        in_erbs[block.own] = _differences(fine[2 * every - 2 :], opposite=True) @ _erb_weights()
        magnitudes = np.concatenate([recent, fine.magnitude[2 * every :, low : high + 1]])
        gain[block.own] = _information_gain(magnitudes)
        recent = magnitudes[-len(recent) :]
        coarse_block = block.every(every)
        noisy = coarse_block.with_noise()
        coarse = fine[::every] if noisy is coarse_block else noisy.spectra()
        difference[noisy.own] = np.sqrt(_differences(coarse)).sum(axis=1)
        squares = np.square(coarse.magnitude[2:])
        power[noisy.own] = squares.sum(axis=1)
        in_mels[noisy.own] = squares[:, : len(_mel_weights())] @ _mel_weights()
    decibels = 20 * np.log10(np.maximum(in_mels, _MEL_FLOOR))
    return BeatFunctions(
        complex_difference=difference,
        energy_flux=np.maximum(np.diff(np.sqrt(power), prepend=np.sqrt(power[:1])), 0),
        mel_flux=np.maximum(np.diff(decibels, axis=0, prepend=decibels[:1]), 0).sum(axis=1),
        beat_emphasis=_beat_emphasis(in_erbs[:count]),
        information_gain=gain[:count],
    )


def frame_count(samples: int, frame: int, hop: int) -> int:
    """Frames of so many samples: one at least, and as many as reach the end."""
    return 1 + max(0, -(-(samples - frame) // hop))


@dataclass(frozen=True)
class _Spectra:
    """Spectra of consecutive frames, each field (frames, bins) float32; `turn_…` are the spectrum brought to length 1,
    which holds its phase."""

    real: np.ndarray
    imag: np.ndarray
    magnitude: np.ndarray
    turn_real: np.ndarray
    turn_imag: np.ndarray

    def __getitem__(self, rows: slice) -> "_Spectra":
        fields = (self.real, self.imag, self.magnitude, self.turn_real, self.turn_imag)
        return _Spectra(*(field[rows] for field in fields))


@dataclass(frozen=True)
class _Block:
    """Consecutive frames, some of which precede those that it is about.

    own: their numbers. missing: how many before them do not exist, since the signal begins later. samples: (frames,
    samples) of those that do.
    """

    own: slice
    missing: int
    samples: np.ndarray

    def every(self, step: int) -> "_Block":
        """Each `step`-th frame."""
        own = slice(self.own.start // step, -(-self.own.stop // step))
        return _Block(own, self.missing // step, self.samples[::step])

    def with_noise(self) -> "_Block":
        """Itself, or with noise in frames that are silent."""
        quiet = np.einsum("ij,ij->i", self.samples, self.samples) < _SILENT_POWER * self.samples.shape[1]
        if not quiet.any():
            return self
        samples = self.samples.copy()
        numbers = self.own.stop - len(samples) + np.flatnonzero(quiet)
        samples[quiet] += _noises()[numbers % _NOISES]
        return _Block(self.own, self.missing, samples)

    def spectra(self) -> _Spectra:
        """Of the frames before and its own; frames that are missing are nothing, with a phase of 0."""
        spectra = fft.rfft(self.samples * _hann(self.samples.shape[1]), axis=1)
        if self.missing:
            spectra = np.concatenate([np.zeros((self.missing, spectra.shape[1]), spectra.dtype), spectra])
        real, imag = spectra.real.copy(), spectra.imag.copy()
        magnitude = np.sqrt(real * real + imag * imag)
        nothing = magnitude == 0
        inverse = 1 / np.where(nothing, np.float32(1), magnitude)
        turn_real, turn_imag = real * inverse, imag * inverse
        # A phase of 0 is meant at the middle of the frame, where essentia's begins: the spectrum of what lies there has
        # alternating signs here.
        turn_real += nothing * _alternating(spectra.shape[1])
        return _Spectra(real, imag, magnitude, turn_real, turn_imag)


def _blocks(signal: np.ndarray, frame: int, hop: int, count: int, *, before: int) -> Iterator[_Block]:
    """`count` frames in blocks of _BLOCK at most, each with the `before` frames that precede it."""
    for first in range(0, count, _BLOCK):
        own = slice(first, min(count, first + _BLOCK))
        begin, end = max(0, first - before) * hop, (own.stop - 1) * hop + frame
        samples = signal[begin:end]
        if len(samples) < end - begin:
            samples = np.concatenate([samples, np.zeros(end - begin - len(samples), np.float32)])
        yield _Block(own, max(0, before - first), sliding_window_view(samples, frame)[::hop])


def _differences(frames: _Spectra, *, opposite: bool = False) -> np.ndarray:
    """Squared distance of each bin from where it would be if magnitude and turn went on as in the two frames before:
    (frames - 2, bins).

    `opposite`: the earlier of the two is taken to turn the other way, as essentia's beat emphasis does.
    """
    one_real, one_imag = frames.turn_real[1:-1], frames.turn_imag[1:-1]
    two_real, two_imag = frames.turn_real[:-2], frames.turn_imag[:-2]
    twice_real = one_real * one_real
    twice_real -= one_imag * one_imag
    twice_imag = one_real * one_imag
    twice_imag += twice_imag
    sign = np.float32(1 if opposite else -1)
    expected_real = twice_real * two_real
    expected_real -= sign * (twice_imag * two_imag)
    expected_imag = twice_imag * two_real
    expected_imag += sign * (twice_real * two_imag)
    along = frames.real[2:] * expected_real
    along += frames.imag[2:] * expected_imag
    across = frames.imag[2:] * expected_real
    across -= frames.real[2:] * expected_imag
    along -= frames.magnitude[1:-1]
    along *= along
    across *= across
    along += across
    squared: np.ndarray = along
    return squared


def _beat_emphasis(in_erbs: np.ndarray) -> Function:
    """Of differences (frames, bands): the sum of the bands that beat most clearly, each weighted by how clearly."""
    count = len(in_erbs)
    spread = in_erbs.std(axis=0, dtype=np.float64)
    bands = np.empty((_ERBS, count), np.float32)
    clarity = np.empty(_ERBS)
    for number in range(_ERBS):
        band = in_erbs[:, number] / (spread[number] or 1)
        band = np.concatenate([band, np.repeat(band[-1:], _SMOOTHED - 1)])
        sums = np.concatenate([[0], np.cumsum(band)])
        means = (sums[_SMOOTHED:] - sums[:-_SMOOTHED]) / _SMOOTHED  # of a frame and those that follow
        band[:count] = np.maximum(band[:count] - means, 0)
        bands[number], clarity[number] = band[:count], _clarity(band)
    # Meant is the threshold that 40 % of the bands reach, but essentia sorts an empty list: it is one band's value.
    weights = np.where(clarity >= clarity[_DECIDING_ERB], clarity, 0)
    emphasis: Function = weights.astype(np.float32) @ bands
    return emphasis


def _clarity(band: np.ndarray) -> float:
    """How strongly (n,) repeats itself, at the period that it does most."""
    padded = fft.next_fast_len(2 * len(band), real=True)
    spectrum = fft.rfft(band, padded)
    likeness = fft.irfft(spectrum.real**2 + spectrum.imag**2, padded)[: min(len(band), _LONGEST_PERIOD)]
    likeness /= len(band) - np.arange(len(likeness))
    likeness = np.pad(likeness, (0, _LONGEST_PERIOD - len(likeness)))
    lags = np.arange(_SHORTEST_PERIOD - 1, (_LONGEST_PERIOD - (_COMBS - 1)) // _COMBS - 1)
    combed = np.zeros(len(lags))
    for comb in range(1, _COMBS + 1):
        for beside in range(1 - comb, comb):
            combed += likeness[lags * comb + beside] / (2 * comb - 1)
    periods = lags + 1
    preference = periods / _COMMON_PERIOD**2 * np.exp(-0.5 * periods**2 / _COMMON_PERIOD**2)  # Rayleigh
    return float((combed * preference).max(initial=0))


def _information_gain(magnitudes: np.ndarray) -> Function:
    """Of (frames, bins), by how many octaves the bins rise from the frames before a moment to those after it: for all
    frames but the first ten.

    The moment lies five frames before the one that the value stands at.
    """
    reach = len(_GAIN_WEIGHTS)
    count = len(magnitudes) - 2 * reach
    before, after = np.zeros((2, count, magnitudes.shape[1]), np.float32)
    for number, weight in enumerate(_GAIN_WEIGHTS):
        before += magnitudes[reach - 1 - number :][:count] * weight
        after += magnitudes[reach + 1 + number :][:count] * weight
    before[before == 0] = 1
    after[after == 0] = np.finfo(np.float32).eps
    after /= before
    gain: Function = np.maximum(np.log2(after), 0).sum(axis=1)
    return gain


@cache
def _hann(size: int) -> np.ndarray:
    """(size,) symmetric; a full-scale sine has magnitude 1 at its bin."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    scaled: np.ndarray = (2 * window / window.sum()).astype(np.float32)
    return scaled


@cache
def _alternating(size: int) -> np.ndarray:
    return np.resize(np.array([1, -1], np.float32), size)


@cache
def _noises() -> np.ndarray:
    """(_NOISES, BEAT_FRAME), always the same."""
    return np.random.default_rng(0).uniform(-_NOISE, _NOISE, (_NOISES, BEAT_FRAME)).astype(np.float32)


@cache
def _mel_weights() -> np.ndarray:
    """(bins, _MELS) of the power of the bins up to _MEL_TOP_HZ."""
    bands = algorithms.MelBands(
        inputSize=BEAT_FRAME // 2 + 1, sampleRate=ESSENTIA_RATE_HZ, numberBands=_MELS, highFrequencyBound=_MEL_TOP_HZ
    )
    weights = _weights_of(bands)
    return weights[: np.flatnonzero(weights.any(axis=1))[-1] + 1]


@cache
def _erb_weights() -> np.ndarray:
    """(bins, _ERBS) of gammatone filters, up to the highest frequency."""
    return _weights_of(
        algorithms.ERBBands(
            inputSize=BEAT_FRAME // 2 + 1,
            numberBands=_ERBS,
            lowFrequencyBound=_ERB_LOWEST_HZ,
            highFrequencyBound=ESSENTIA_RATE_HZ / 2,
            type="magnitude",
        )
    )


def _weights_of(bands: Any) -> np.ndarray:
    """(bins, bands) of an algorithm that sums bins: what it makes of each alone."""
    return np.stack([bands(bin_alone) for bin_alone in np.eye(BEAT_FRAME // 2 + 1, dtype=np.float32)])
