"""What is kept of a sound so that an excerpt of it is known again, also encoded anew or below other music.

Three things, of which the first says where to look and the others whether it is there:

* Words: the sign of how the difference of two neighbouring bands of frequency changes from one frame to the next, 32
  a frame (Haitsma and Kalker, "A highly robust audio fingerprinting system", ISMIR 2002), and a mask of those that
  tell most: where the change is largest, and so is loudest in a mix.
* Waves: the signs of the whitened waveform between 100 and 1000 Hz. Two signs agree by chance in half of the samples;
  of a sound 6 dB below another in 65 % of them (Van Vleck's arcsine law), which 10 s of them tell apart from chance
  by far. What moves a pitch, a tempo or the phases undoes it, coding and mixing do not.
* Levels: how loud the waveform is in each cell of 0.93 s and a sixth of an octave, in decibels. They tell how much of
  each cell of a mix a copy must be, and so a copy from another song that has a few of its notes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from luthier_kit.rpc import InvalidRequest
from luthier_music.audio_rate import low_pass, mean_of_channels, resampled
from luthier_music.native import decimated

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]

VERSION: Final = 2
"""Goes up whenever fingerprints of the same sound do not agree any more: those of another version are not compared.
Version 1 had no levels.
Rounding does not count: what a filter changes, 2 of 1,000 bits, is as nothing beside what a codec does."""
RATE_HZ: Final = 8820
FRAME: Final = 2048
"""Samples of a Fourier transform, 232 ms."""
HOP: Final = 512
"""58 ms from a word to the next."""
HOP_S: Final = HOP / RATE_HZ
WAVE_RATE_HZ: Final = 2205
MIN_S: Final = 2.0
MAX_S: Final = 600.0
BITS: Final = 32
_BANDS_HZ: Final = (200.0, 3800.0)
WAVES_HZ: Final = (100.0, 1000.0)
WAVE_FRAME, WAVE_HOP = 512, 256
"""Samples of a Fourier transform of waves, 232 ms, and from one to the next."""
CELL: Final = 8 * WAVE_HOP
"""Samples of waves from a cell to the next, 0.93 s: those of eight transforms."""
CELL_BANDS: Final = 20
LOWEST_DB: Final = -90
"""Level 0; a sine of full scale within a cell has 53 dB, level 143."""
_WHITE_HZ: Final = 20.0  # over which the spectrum is made even
_COMPRESSED: Final = 0.3  # power of energies, as loudness is: loud changes count most, soft ones still some
_TELLING: Final = 0.33  # share of the bits that the mask keeps
_SILENCE: Final = 1e-4  # root mean square, -80 dBFS
_FLOOR: Final = 1e-9
_BLOCK: Final = 32  # frames at a time: what they need stays in the processor's cache, and memory is not asked for anew


class NoFingerprint(InvalidRequest):
    """These bytes are no fingerprint of this version."""


@dataclass(frozen=True)
class Fingerprint:
    """`words`, `mask` (n,): 32 bits each HOP_S, and which of them tell most. `waves` (m,) uint8: signs at WAVE_RATE_HZ,
    eight a byte, the first highest. `levels` (cells, CELL_BANDS) uint8: of cells one after another from the first wave
    on, decibels above LOWEST_DB. `duration_s`: MIN_S to MAX_S.
    """

    words: Words
    mask: Words
    waves: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    duration_s: float

    def to_bytes(self) -> bytes:
        """A safetensors file, 440 bytes a second: the same sound gives the same bytes."""
        return save({"words": self.words, "mask": self.mask, "waves": self.waves, "levels": self.levels,
                     "duration_s": np.array([self.duration_s], np.float64)})  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> "Fingerprint":
        """What `to_bytes` wrote. NoFingerprint where it is something else."""
        try:
            arrays = load(data)
            words, mask, waves, levels = (arrays[name] for name in ("words", "mask", "waves", "levels"))
            duration_s = float(arrays["duration_s"].reshape(1)[0])
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise NoFingerprint(f"fingerprint: these bytes are none ({type(error).__name__})") from error
        types = [each.dtype for each in (words, mask, waves, levels)] == [np.uint32, np.uint32, np.uint8, np.uint8]
        if not (types and words.ndim == waves.ndim == 1 and words.shape == mask.shape):
            raise NoFingerprint(
                "fingerprint: words, mask, waves must be rows of uint32, uint32, uint8, levels of uint8"
            )
        if not (MIN_S <= duration_s <= MAX_S and 0 < words.size <= duration_s / HOP_S + 1
                and abs(waves.size * 8 - duration_s * WAVE_RATE_HZ) <= 16
                and levels.shape in [(cells_of(8 * waves.size - spare), CELL_BANDS) for spare in (0, 7)]):  # fmt: skip
            raise NoFingerprint(f"fingerprint: the rows must be as long as {duration_s} s are")
        return cls(words, mask, waves, levels, duration_s)


def fingerprint_of(samples: Floats, sample_rate_hz: int) -> Fingerprint | None:
    """The fingerprint of a sound (frames, channels), full scale 1; None where it is shorter than MIN_S, longer than
    MAX_S, or silent. The same samples give the same fingerprint.
    """
    duration_s = len(samples) / sample_rate_hz
    if not MIN_S <= duration_s <= MAX_S:
        return None
    mono = mono_of(samples, sample_rate_hz)
    if is_silent(mono):
        return None
    energies = band_energies(mono)
    waves = waves_of(mono)
    signs = np.packbits(wave_signs(waves) > 0)
    return Fingerprint(words_of(energies), telling(energies), signs, levels_of(waves), duration_s)


def mono_of(samples: Floats, sample_rate_hz: int) -> Floats:
    """The mean of the channels (frames, channels) at RATE_HZ. 44.1 kHz, which outputs have, has a filter of its own,
    which costs a third: -0.1 dB at 3.5 kHz, -1.2 dB at 3.8, -50 dB and less where what folds below 3.8 kHz lies.
    """
    if sample_rate_hz == 5 * RATE_HZ:
        return decimated(samples, _FIVE_TIMES, 5)
    return resampled(mean_of_channels(samples), sample_rate_hz, RATE_HZ)


def is_silent(mono: Floats) -> bool:
    """Whether there is nothing to hear."""
    return float(np.dot(mono, mono)) < _SILENCE**2 * mono.size if mono.size else True


def band_energies(mono: Floats) -> Floats:
    """Energies (frames, 33) in bands of one width in log frequency."""
    windows = np.lib.stride_tricks.sliding_window_view(mono, FRAME)[::HOP]
    energies = np.empty((len(windows), BITS + 1), np.float32)
    shaped = np.empty((_BLOCK, FRAME), np.float32)
    spectra = np.empty((_BLOCK, FRAME // 2 + 1), np.complex64)
    for start in range(0, len(windows), _BLOCK):
        some = windows[start : start + _BLOCK]
        count = len(some)
        np.multiply(some, _WINDOW, out=shaped[:count])
        # numpy's types know no `out` of single precision
        np.fft.rfft(shaped[:count], axis=1, out=spectra[:count])  # type: ignore[arg-type]
        heard = spectra[:count, _BAND_EDGES[0] : _BAND_EDGES[-1]]
        power = np.square(heard.real) + np.square(heard.imag)
        np.add.reduceat(power, _BAND_EDGES[:-1] - _BAND_EDGES[0], axis=1, out=energies[start : start + count])
    return energies


def words_of(energies: Floats) -> Words:
    """One word less than frames."""
    levels = np.log(energies + np.float32(_FLOOR))
    return _packed(_changes(levels) > 0)


def telling(energies: Floats) -> Words:
    """The mask of words: the bits whose changes are the largest of the sound."""
    sizes = np.abs(_changes(energies ** np.float32(_COMPRESSED)))
    return _packed(sizes > np.quantile(sizes, 1 - _TELLING))


def waves_of(mono: Floats) -> Floats:
    """The waveform at WAVE_RATE_HZ."""
    return decimated(mono, _TO_WAVES, RATE_HZ // WAVE_RATE_HZ)


def wave_signs(waves: Floats) -> Floats:
    """Signs, -1 or 1, of the waveform whitened within WAVES_HZ; an unvarying one has none that mean something."""
    size = fast_length(len(waves))
    spectrum = np.fft.rfft(waves, size)
    step_hz = WAVE_RATE_HZ / size
    first, last = round(WAVES_HZ[0] / step_hz), round(WAVES_HZ[1] / step_hz)
    part = spectrum[first:last]
    width = max(3, round(_WHITE_HZ / step_hz))
    power = np.square(np.abs(part), dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    at = np.arange(len(part))
    low, high = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(part))
    around = (sums[high] - sums[low]) / (high - low)
    white = np.zeros(size // 2 + 1, np.complex64)
    white[first:last] = part / np.sqrt(around + _FLOOR)
    return np.where(np.fft.irfft(white, size)[: len(waves)] > 0, np.float32(1), np.float32(-1))


def levels_of(waves: Floats) -> NDArray[np.uint8]:
    """How loud waves are in each cell (cells, CELL_BANDS), decibels above LOWEST_DB."""
    decibels = 10 * np.log10(in_cells(power_of(cell_spectra(waves))) + np.float32(_FLOOR))
    levels: NDArray[np.uint8] = np.clip(np.rint(decibels) - LOWEST_DB, 0, 255).astype(np.uint8)
    return levels


def cells_of(samples: int) -> int:
    """How many whole cells so many samples of waves have."""
    return max(0, (samples - (WAVE_FRAME - WAVE_HOP)) // CELL)


def cell_spectra(waves: Floats) -> NDArray[np.complex64]:
    """Fourier transforms (frames, bins) of the cells of waves, eight frames each; bins are those within WAVES_HZ. An
    equal number of samples gives an equal number of frames."""
    frames = cells_of(len(waves)) * CELL // WAVE_HOP
    windows = np.lib.stride_tricks.sliding_window_view(waves, WAVE_FRAME)[::WAVE_HOP][:frames] if frames else _NONE
    spectra: NDArray[np.complex64] = np.fft.rfft(windows * _WAVE_WINDOW, axis=1)[:, CELL_BINS].astype(np.complex64)
    return spectra


def power_of(spectra: NDArray[np.complex64]) -> Floats:
    """The square of each magnitude."""
    power: Floats = np.square(spectra.real) + np.square(spectra.imag)
    return power


def in_cells(values: Floats) -> Floats:
    """Values (frames, bins) of `cell_spectra` summed over each cell (cells, CELL_BANDS)."""
    by_time = values.reshape(-1, CELL // WAVE_HOP, values.shape[1]).sum(axis=1)
    return np.add.reduceat(by_time, _CELL_EDGES[:-1] - _CELL_EDGES[0], axis=1)


def fast_length(least: int) -> int:
    """The first length from `least` on of which a Fourier transform is quick: twice a product of 2, 3 and 5."""
    return int(_FAST[np.searchsorted(_FAST, least)])


def _changes(levels: Floats) -> Floats:
    """(frames - 1, 32): of the difference of each band to the next above, from one frame to the next."""
    across = levels[:, :-1] - levels[:, 1:]
    changes: Floats = across[1:] - across[:-1]
    return changes


def _packed(bits: NDArray[np.bool_]) -> Words:
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)


def _band_edges() -> NDArray[np.int64]:
    """The bins of the transform at which the 33 bands begin, and the one at which the last ends."""
    edges_hz = _BANDS_HZ[0] * (_BANDS_HZ[1] / _BANDS_HZ[0]) ** (np.arange(BITS + 2) / (BITS + 1))
    return np.searchsorted(np.fft.rfftfreq(FRAME, 1 / RATE_HZ), edges_hz)


_FAST: Final = np.array(
    sorted(2**twos * 3**threes * 5**fives for twos in range(1, 26) for threes in range(8) for fives in range(6))
)
_BAND_EDGES: Final = _band_edges()
_FIVE_TIMES: Final = low_pass(85, 4200.0, 5 * RATE_HZ, 4.5)
_TO_WAVES: Final = low_pass(81, 1050.0, RATE_HZ, 4.5)
"""1.2 kHz, which folds to 1 kHz at WAVE_RATE_HZ, is 44 dB down; 1 kHz 2.6 dB, of which whitening leaves nothing."""
_WINDOW: Final = np.hanning(FRAME + 1)[:-1].astype(np.float32)
_WAVE_WINDOW: Final = np.hanning(WAVE_FRAME + 1)[:-1].astype(np.float32)
_CELL_EDGES: Final = np.rint(
    WAVES_HZ[0] * (WAVES_HZ[1] / WAVES_HZ[0]) ** (np.arange(CELL_BANDS + 1) / CELL_BANDS) * WAVE_FRAME / WAVE_RATE_HZ
).astype(np.int64)
CELL_BINS: Final = slice(int(_CELL_EDGES[0]), int(_CELL_EDGES[-1]))
"""Those of a transform of WAVE_FRAME that cells have."""
CELL_WIDTHS: Final = np.diff(_CELL_EDGES).astype(np.float32)
"""Bins of each band."""
_NONE: Final = np.zeros((0, WAVE_FRAME), np.float32)
