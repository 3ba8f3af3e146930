"""The compiled loops of native/*.c, for arrays: what numpy would need a pass each for is one pass here.

Arrays are checked by their callers; here they only become pointers. Calls let other threads of Python run.
"""

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

FLAC_BLOCK_FRAMES: Final = 4096  # of all frames of a stream but the last
_LARGEST_BYTES: Final = (1 << 24) - 1  # of a frame, that a stream's header can say


def _load() -> ctypes.CDLL:
    spec = find_spec("luthier_music_native")
    if spec is None or spec.origin is None:
        raise ImportError("luthier_music has no compiled part: `uv sync` builds it")
    library = ctypes.CDLL(str(Path(spec.origin).with_name("luthier_music.so")))
    pointer, whole, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
    library.luthier_hop_energies.argtypes = [pointer, number, pointer, whole, pointer, pointer, pointer]
    library.luthier_hop_energies.restype = None
    library.luthier_flac_frames.argtypes = [pointer, whole, number, real, whole, pointer, pointer]
    library.luthier_flac_frames.restype = ctypes.c_int64
    library.luthier_flac_bound.argtypes = [whole, number]
    library.luthier_flac_bound.restype = ctypes.c_int64
    return library


_LIBRARY: Final = _load()


def hop_energies(
    samples: NDArray[np.float32], edges: NDArray[np.int64], sos: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Of samples [frames, 1..2], from each of the frames `edges` [hops + 1] to the next: the mean square [hops] once
    filtered by two second-order sections [2, 6], summed over channels; the peak [hops] before, NaN or infinity where
    there is one."""
    hops = edges.size - 1
    energies, peaks = np.empty(hops), np.empty(hops, np.float32)
    samples, sos = np.ascontiguousarray(samples, np.float32), np.ascontiguousarray(sos, np.float64)
    pointers = (samples.ctypes.data, samples.shape[1], edges.ctypes.data, hops, sos.ctypes.data)
    _LIBRARY.luthier_hop_energies(*pointers, energies.ctypes.data, peaks.ctypes.data)
    return energies, peaks


class FlacFrames:
    """Encodes up to `frames` samples of each of `channels` (1 to 8) at a time as FLAC frames of 16 bit."""

    def __init__(self, frames: int, channels: int) -> None:
        size = _LIBRARY.luthier_flac_bound(-(-frames // FLAC_BLOCK_FRAMES), channels)
        self._out = np.empty(size, np.uint8)
        self._number = 0  # of the next frame
        self._sizes = np.array([_LARGEST_BYTES, 0], np.int64)  # of frames so far, the smallest and the largest

    @property
    def smallest(self) -> int:
        """Bytes of the smallest frame so far, 0 before the first."""
        return int(self._sizes[0]) if self._number else 0

    @property
    def largest(self) -> int:
        """Bytes of the largest frame so far."""
        return int(self._sizes[1])

    def encode(self, samples: NDArray[np.float32], gain: float) -> memoryview | None:
        """The frames of samples [frames, channels], full scale 1.0, times `gain`; None where one is beyond full scale,
        NaN or infinite. All blocks but a stream's last hold a multiple of FLAC_BLOCK_FRAMES."""
        samples = np.ascontiguousarray(samples, np.float32)
        count, channels = samples.shape
        size = _LIBRARY.luthier_flac_frames(
            samples.ctypes.data, count, channels, gain, self._number, self._out.ctypes.data, self._sizes.ctypes.data
        )
        self._number += -(-count // FLAC_BLOCK_FRAMES)
        return self._out[:size].data if size >= 0 else None
