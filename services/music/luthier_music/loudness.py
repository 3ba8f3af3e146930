"""Integrated loudness by ITU-R BS.1770-4, gated, in LUFS; in one compiled pass.

K-weighting (a high shelf, then a high pass), mean square in 400 ms blocks that overlap by 75 %, an absolute gate
at -70 LUFS and a relative one 10 LU below the mean of what passed it. Left and right weigh 1.0 each; more
channels are refused. Filters for any sample rate come from the analogue prototype of the standard's 48 kHz
coefficients, as libebur128 and pyloudnorm derive them. Silence is -inf, never NaN.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.native import hop_energies

ABSOLUTE_GATE_LUFS: Final = -70.0
RELATIVE_GATE_LU: Final = -10.0
_OFFSET_LU: Final = -0.691  # makes a 997 Hz sine at 0 dBFS in one channel read -3.01
_HOPS_PER_BLOCK: Final = 4  # blocks of 400 ms, a new one every 100 ms
_HOP_S: Final = 0.1


@lru_cache(maxsize=16)
def k_weighting(sample_rate_hz: int) -> NDArray[np.float64]:
    """The two second-order sections [2, 6] of the K-weighting filter at this sample rate."""
    f0, gain_db, q = 1681.974450955533, 3.999843853973347, 0.7071752369554196  # high shelf: Hz, dB, quality
    k = np.tan(np.pi * f0 / sample_rate_hz)
    vh = 10.0 ** (gain_db / 20.0)
    vb = vh**0.4996667741545416
    a0 = 1.0 + k / q + k * k
    b = [(vh + vb * k / q + k * k) / a0, 2.0 * (k * k - vh) / a0, (vh - vb * k / q + k * k) / a0]
    shelf = [*b, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0]

    f0, q = 38.13547087602444, 0.5003270373238773  # high pass
    k = np.tan(np.pi * f0 / sample_rate_hz)
    a0 = 1.0 + k / q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0]
    return np.array([shelf, high_pass])


@dataclass(frozen=True)
class Measured:
    """K-weighted mean square of each full 100 ms of a signal, summed over channels [hops], and its largest absolute
    sample. A signal shorter than 400 ms has four equal hops of its mean."""

    energies: NDArray[np.float64]
    peak: float

    @property
    def loudness_lufs(self) -> float:
        """Integrated loudness; -inf for silence."""
        return gated_loudness_lufs(self.energies)


def integrated_loudness_lufs(samples: NDArray[np.floating], sample_rate_hz: int) -> float:
    """Integrated loudness of `samples` [frames] or [frames, 1..2], full scale 1.0. -inf for silence.

    What is shorter than one 400 ms block is measured as one block of its own length.
    ValueError for NaN or infinity, more than two channels, or a rate below 8 kHz.
    """
    return measure(samples, sample_rate_hz).loudness_lufs


def measure(samples: NDArray[np.floating], sample_rate_hz: int) -> Measured:
    """What loudness is worked out from, and the peak, of samples as above: in one pass over them, as float32."""
    frames = samples[:, np.newaxis] if samples.ndim == 1 else samples
    if frames.ndim != 2 or not 1 <= frames.shape[1] <= 2:
        raise ValueError(f"samples must be [frames] or [frames, 1..2], got {samples.shape}")
    if sample_rate_hz < 8000:
        raise ValueError(f"sample_rate_hz must be at least 8000, got {sample_rate_hz}")
    if frames.shape[0] == 0:
        return Measured(np.zeros(_HOPS_PER_BLOCK), 0.0)
    edges = np.rint(np.arange(int(frames.shape[0] / sample_rate_hz / _HOP_S + 1e-9) + 1) * sample_rate_hz * _HOP_S)
    edges = edges.astype(np.int64)
    if edges.size <= _HOPS_PER_BLOCK:
        edges = np.array([0, frames.shape[0]])
    energies, peaks = hop_energies(frames, edges, k_weighting(sample_rate_hz))
    highest = float(np.maximum(peaks.max(), np.abs(frames[edges[-1] :]).max(initial=0.0)))  # of NaN and any, NaN
    if not np.isfinite(highest):
        raise ValueError("samples hold NaN or infinity")
    return Measured(np.repeat(energies, _HOPS_PER_BLOCK) if energies.size == 1 else energies, highest)


def gated_loudness_lufs(energies: NDArray[np.float64]) -> float:
    """Integrated loudness from energies of `measure`; of several signals one after the other when concatenated."""
    if energies.size < _HOPS_PER_BLOCK:
        return -np.inf
    sums = np.concatenate([[0.0], np.cumsum(energies)])
    blocks = np.maximum(sums[_HOPS_PER_BLOCK:] - sums[:-_HOPS_PER_BLOCK], 0.0) / _HOPS_PER_BLOCK
    blocks = blocks[blocks > 10.0 ** ((ABSOLUTE_GATE_LUFS - _OFFSET_LU) / 10.0)]
    if blocks.size == 0:
        return -np.inf
    loud = blocks[blocks > blocks.mean() * 10.0 ** (RELATIVE_GATE_LU / 10.0)]
    return float(_OFFSET_LU + 10.0 * np.log10(loud.mean()))
