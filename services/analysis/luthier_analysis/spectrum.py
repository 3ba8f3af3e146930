"""Short-time power spectra, projected block by block, so that memory stays small for long songs."""

import numpy as np
from scipy.signal.windows import hann

_BLOCK = 256  # frames at a time


def projected_power(signal: np.ndarray, frame: int, hop: int, basis: np.ndarray) -> np.ndarray:
    """Hann-windowed power spectra of whole frames, times `basis` (frame // 2 + 1, k): (frames, k) float32.

    A full-scale sine has power 1 at its bin. At least one frame, zero-padded where the signal is shorter.
    """
    if len(signal) < frame:
        signal = np.pad(signal, (0, frame - len(signal)))
    frames = np.lib.stride_tricks.sliding_window_view(signal, frame)[::hop]
    window = hann(frame, sym=False).astype(np.float32)
    window /= window.sum() / 2
    projected = np.empty((len(frames), basis.shape[1]), np.float32)
    for first in range(0, len(frames), _BLOCK):
        block = np.fft.rfft(frames[first : first + _BLOCK] * window, axis=1)
        projected[first : first + _BLOCK] = (block.real**2 + block.imag**2) @ basis
    return projected
