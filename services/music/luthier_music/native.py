"""The compiled loop of native/loudness.c, for arrays: what numpy would need several passes for is one here.

Arrays are checked by their callers; here they only become pointers. Calls let other threads of Python run.
"""

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray


def _load() -> ctypes.CDLL:
    spec = find_spec("luthier_music_native")
    if spec is None or spec.origin is None:
        raise ImportError("luthier_music has no compiled part: `uv sync` builds it")
    library = ctypes.CDLL(str(Path(spec.origin).with_name("luthier_music.so")))
    pointer, whole, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.luthier_hop_energies.argtypes = [pointer, number, pointer, whole, pointer, pointer, pointer]
    library.luthier_hop_energies.restype = None
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
