"""Integrated loudness by ITU-R BS.1770-4, gated, in LUFS; vectorised and in bounded memory.

K-weighting (a high shelf, then a high pass), mean square in 400 ms blocks that overlap by 75 %, an absolute gate
at -70 LUFS and a relative one 10 LU below the mean of what passed it. Left and right weigh 1.0 each; more
channels are refused. Filters for any sample rate come from the analogue prototype of the standard's 48 kHz
coefficients, as libebur128 and pyloudnorm derive them. Silence is -inf, never NaN.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

ABSOLUTE_GATE_LUFS: Final = -70.0
RELATIVE_GATE_LU: Final = -10.0
_OFFSET_LU: Final = -0.691  # makes a 997 Hz sine at 0 dBFS in one channel read -3.01
_HOPS_PER_BLOCK: Final = 4  # blocks of 400 ms, a new one every 100 ms
_HOP_S: Final = 0.1
_CHUNK_HOPS: Final = 40  # 4 s at a time: bounds memory, stays in cache


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


def integrated_loudness_lufs(samples: NDArray[np.floating], sample_rate_hz: int) -> float:
    """Integrated loudness of `samples` [frames] or [frames, 1..2], full scale 1.0. -inf for silence.

    What is shorter than one 400 ms block is measured as one block of its own length.
    ValueError for NaN or infinity, more than two channels, or a rate below 8 kHz.
    """
    return gated_loudness_lufs(hop_energies(samples, sample_rate_hz))


def hop_energies(samples: NDArray[np.floating], sample_rate_hz: int) -> NDArray[np.float64]:
    """K-weighted mean square of each full 100 ms, summed over channels [hops]; the raw material of the gates.

    A signal shorter than 400 ms gives four equal hops of its mean.
    """
    frames = samples[:, np.newaxis] if samples.ndim == 1 else samples
    if frames.ndim != 2 or not 1 <= frames.shape[1] <= 2:
        raise ValueError(f"samples must be [frames] or [frames, 1..2], got {samples.shape}")
    if sample_rate_hz < 8000:
        raise ValueError(f"sample_rate_hz must be at least 8000, got {sample_rate_hz}")
    edges = np.rint(np.arange(int(frames.shape[0] / sample_rate_hz / _HOP_S + 1e-9) + 1) * sample_rate_hz * _HOP_S)
    edges = edges.astype(np.int64)
    if edges.size <= _HOPS_PER_BLOCK:
        edges = np.array([0, frames.shape[0]])
    energies = np.concatenate(list(_chunk_energies(frames, edges, k_weighting(sample_rate_hz))))
    return np.repeat(energies, _HOPS_PER_BLOCK) if energies.size == 1 else energies


def _chunk_energies(
    frames: NDArray[np.floating], edges: NDArray[np.int64], sos: NDArray[np.float64]
) -> Iterable[NDArray[np.float64]]:
    """Filter chunk after chunk, carrying the filter's state; silence after silence costs nothing."""
    from scipy.signal import sosfilt  # half a second to import, for the few that measure

    state = np.zeros((sos.shape[0], frames.shape[1], 2))
    for first in range(0, edges.size - 1, _CHUNK_HOPS):
        bounds = edges[first : first + _CHUNK_HOPS + 1]
        chunk = frames[bounds[0] : bounds[-1]]
        if chunk.size == 0 or (not chunk.any() and np.abs(state).max() < 1e-9):
            yield np.zeros(bounds.size - 1)
            continue
        weighted, state = sosfilt(sos, np.ascontiguousarray(chunk.T, dtype=np.float64), axis=1, zi=state)
        np.square(weighted, out=weighted)
        sums = np.add.reduceat(weighted, bounds[:-1] - bounds[0], axis=1).sum(axis=0)
        if not np.isfinite(sums).all():
            raise ValueError("samples hold NaN or infinity")
        yield sums / np.diff(bounds)


def gated_loudness_lufs(energies: NDArray[np.float64]) -> float:
    """Integrated loudness from `hop_energies`; of several signals one after the other when concatenated."""
    if energies.size < _HOPS_PER_BLOCK:
        return -np.inf
    sums = np.concatenate([[0.0], np.cumsum(energies)])
    blocks = np.maximum(sums[_HOPS_PER_BLOCK:] - sums[:-_HOPS_PER_BLOCK], 0.0) / _HOPS_PER_BLOCK
    blocks = blocks[blocks > 10.0 ** ((ABSOLUTE_GATE_LUFS - _OFFSET_LU) / 10.0)]
    if blocks.size == 0:
        return -np.inf
    loud = blocks[blocks > blocks.mean() * 10.0 ** (RELATIVE_GATE_LU / 10.0)]
    return float(_OFFSET_LU + 10.0 * np.log10(loud.mean()))
