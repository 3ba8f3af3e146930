"""Structure of long audio: how alike its parts are, as a self-similarity matrix (Foote 1999).

Stable Audio 2 (Evans et al. 2024, arXiv:2404.10301) shows such matrices of its outputs: parts that return are blocks
and stripes off the diagonal. The parts here are described by what sounds (chroma) and how it sounds (cepstrum of the
mel spectrum), in equal weight, each less its mean over the piece.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.signal import ShortTimeFFT, get_window

from luthier_music.audio import Samples

FRAME_S: Final = 0.186  # 4096 samples at 22,050 Hz
HOP_S: Final = FRAME_S / 2
PART_S: Final = 0.5
MOST_PARTS: Final = 240  # of a matrix: parts of longer audio are longer
CONTEXT: Final = 4  # parts that follow one are compared with it, so that a chord is known by its progression
CHROMA_HZ: Final = (55.0, 4186.0)  # A1 to C8
C0_HZ: Final = 16.3516
MELS: Final = 40
MEL_HZ: Final = (30.0, 11_025.0)
CEPSTRUM: Final = slice(1, 14)  # without the level
FLOOR: Final = 1e-8  # of energy, -80 dB


def self_similarity(samples: Samples, rate: int) -> NDArray[np.float32]:
    """How alike each two parts of samples (frames, channels) are: (parts, parts), -1 to 1; of silence all 0."""
    found = _described(samples.mean(axis=1, dtype=np.float64), rate)  # [parts, features]
    followed = np.concatenate([np.roll(found, -shift, axis=0) for shift in range(CONTEXT)], axis=1)
    followed = followed[: max(1, len(found) - CONTEXT + 1)]
    lengths = np.linalg.norm(followed, axis=1, keepdims=True)
    unit = np.divide(followed, lengths, out=np.zeros_like(followed), where=lengths > 1e-9)
    alike: NDArray[np.float32] = (unit @ unit.T).astype(np.float32)
    return alike


def part_s(duration_s: float) -> float:
    """Length of a part of audio, seconds."""
    return max(PART_S, duration_s / MOST_PARTS)


def _described(mono: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """(parts, 25): chroma and cepstrum of each part."""
    hop, length = max(1, round(HOP_S * rate)), max(8, round(FRAME_S * rate))
    transform = ShortTimeFFT(get_window("hann", length), hop, rate)
    energy = np.abs(transform.stft(mono)).T ** 2  # [frames, bins]
    energy[energy.sum(axis=1) < FLOOR * max(energy.sum(axis=1).max(), 1e-30)] = 0
    frequencies = transform.f
    chroma = np.sqrt(energy) @ _pitch_classes(frequencies)
    norms = np.linalg.norm(chroma, axis=1, keepdims=True)
    chroma = np.divide(chroma, norms, out=np.zeros_like(chroma), where=norms > 0)
    mel = energy @ _mel_bands(frequencies)
    loudest = max(float(mel.max()), 1e-30)
    cepstrum = dct(np.log(mel / loudest + FLOOR), axis=1, norm="ortho")[:, CEPSTRUM]
    parts = np.minimum(
        (np.arange(len(energy)) * hop / rate / part_s(len(mono) / rate)).astype(int),
        max(0, int(len(mono) / rate / part_s(len(mono) / rate)) - 1),
    )
    return np.concatenate([_standardised(_means(kind, parts)) for kind in (chroma, cepstrum)], axis=1)


def _means(frames: NDArray[np.float64], parts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Means of frames (frames, features) by the part that each is in: (parts, features)."""
    starts = np.flatnonzero(np.diff(parts, prepend=-1))
    sums: NDArray[np.float64] = np.add.reduceat(frames, starts, axis=0)
    return sums / np.diff(starts, append=len(parts))[:, None]


def _standardised(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each feature less its mean, all of them together with variance 1 for each part: 0 where nothing varies."""
    centred = parts - parts.mean(axis=0)
    spread = float(np.sqrt(np.square(centred).sum(axis=1).mean()))
    standardised: NDArray[np.float64] = centred / spread if spread > 1e-6 else np.zeros_like(centred)
    return standardised


def _pitch_classes(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """(bins, 12): which pitch class a bin belongs to, C first."""
    weights = np.zeros((len(frequencies), 12))
    heard = (frequencies >= CHROMA_HZ[0]) & (frequencies <= CHROMA_HZ[1])
    semitones = np.rint(12 * np.log2(frequencies[heard] / C0_HZ)).astype(int)
    weights[np.flatnonzero(heard), semitones % 12] = 1
    return weights


def _mel_bands(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """(bins, MELS): triangles evenly spaced in mel (O'Shaughnessy), up to half the sampling rate."""
    top = min(MEL_HZ[1], float(frequencies[-1]))
    edges = np.linspace(_mel_of(MEL_HZ[0]), _mel_of(top), MELS + 2)
    centres = 700 * (10 ** (edges / 2595) - 1)
    rising = (frequencies[:, None] - centres[:-2]) / np.diff(centres)[:-1]
    falling = (centres[2:] - frequencies[:, None]) / np.diff(centres)[1:]
    bands: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return bands


def _mel_of(hz: float) -> float:
    return float(2595 * np.log10(1 + hz / 700))
