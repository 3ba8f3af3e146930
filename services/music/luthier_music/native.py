"""The compiled loops of native/, for arrays: what numpy would need several passes for is one here.

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
    single = ctypes.c_float
    library.luthier_add_to_mix.argtypes = [pointer, whole, single, pointer, whole, pointer, whole, pointer]
    library.luthier_add_to_mix.restype = None
    library.luthier_to_steps.argtypes = [pointer, whole, number, single, pointer]
    library.luthier_to_steps.restype = single
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


def add_to_mix(
    samples: NDArray[np.float32], gain: float, fade: NDArray[np.float32], mix: NDArray[np.float32], block_frames: int
) -> NDArray[np.float32]:
    """Multiply samples [frames, 2] by a gain and their end by `fade` [any], in place, and add them to the mix [frames,
    2]. Of each `block_frames` of them, the last one shorter, the peak then [blocks]."""
    if not (samples.flags.c_contiguous and mix.flags.c_contiguous and samples.shape == mix.shape):
        raise ValueError("samples and mix must be whole arrays [frames, 2] of one length")
    peaks = np.empty(-(-len(samples) // block_frames), np.float32)
    faded = fade.ctypes.data, fade.size
    _LIBRARY.luthier_add_to_mix(
        samples.ctypes.data, len(samples), gain, *faded, mix.ctypes.data, block_frames, peaks.ctypes.data
    )
    return peaks


def to_steps(samples: NDArray[np.floating], gain: float) -> tuple[NDArray[np.int32], float]:
    """Samples [frames, channels] times a gain in steps of 16 bit [channels, frames], and their peak before they are
    rounded, NaN or infinity where there is one. Above 1.0 the steps mean nothing."""
    samples = np.ascontiguousarray(samples, np.float32)
    steps = np.empty(samples.shape[::-1], np.int32)
    return steps, _LIBRARY.luthier_to_steps(samples.ctypes.data, *samples.shape, gain, steps.ctypes.data)
