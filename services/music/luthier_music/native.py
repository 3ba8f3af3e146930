"""The compiled loops of native/, for arrays: what numpy would need several passes for is one here.

Arrays become pointers here, once they are converted or, where they are changed in place, checked. Calls let other
threads of Python run.
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
    library.luthier_highest.argtypes = [pointer, whole]
    library.luthier_highest.restype = single
    library.luthier_read_warped.argtypes = [pointer, whole, pointer, number, number, pointer, whole, pointer]
    library.luthier_read_warped.restype = None
    return library


_LIBRARY: Final = _load()
_MOST_WEIGHTS: Final = 1024  # as in warped.c


def hop_energies(
    samples: NDArray[np.float32], edges: NDArray[np.int64], sos: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Of samples [frames, 1..2], from each of the frames `edges` [hops + 1] to the next: the mean square [hops] once
    filtered by two second-order sections [2, 6], summed over channels; the peak [hops] before, NaN or infinity where
    there is one."""
    hops = edges.size - 1
    energies, peaks = np.empty(hops), np.empty(hops, np.float32)
    edges = np.ascontiguousarray(edges, np.int64)
    samples, sos = np.ascontiguousarray(samples, np.float32), np.ascontiguousarray(sos, np.float64)
    pointers = (samples.ctypes.data, samples.shape[1], edges.ctypes.data, hops, sos.ctypes.data)
    _LIBRARY.luthier_hop_energies(*pointers, energies.ctypes.data, peaks.ctypes.data)
    return energies, peaks


def add_to_mix(
    samples: NDArray[np.float32], gain: float, fade: NDArray[np.float32], mix: NDArray[np.float32], block_frames: int
) -> NDArray[np.float32]:
    """Multiply samples [frames, 2] by a gain and their end by `fade` [any], in place, and add them to the mix [frames,
    2]. Of each `block_frames` of them, the last one shorter, the peak then [blocks]."""
    if not samples.shape == mix.shape == (len(samples), 2):
        raise ValueError("samples and mix must be [frames, 2], of one length")
    if not all(array.dtype == np.float32 and array.flags.c_contiguous for array in (samples, mix, fade)):
        raise ValueError("samples, mix and fade must be whole arrays of float32")
    if not (samples.flags.writeable and mix.flags.writeable):
        raise ValueError("samples and mix are changed, so they must be writeable")
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


def highest(samples: NDArray[np.float32]) -> float:
    """Largest absolute sample, 0 for none; NaN or infinity where there is one."""
    samples = np.ascontiguousarray(samples, np.float32)
    return float(_LIBRARY.luthier_highest(samples.ctypes.data, samples.size))


def read_warped(
    played: NDArray[np.float32], phases: NDArray[np.float32], at: NDArray[np.float64]
) -> NDArray[np.float32]:
    """What was played [any, 2], read at the places `at` [frames], 0 or more, of a grid that is as many times as fine as
    `phases` [up, taps] has rows: those of a low-pass filter, of an odd number of taps. [frames, 2]; behind the end, the
    last value."""
    played, at = np.ascontiguousarray(played, np.float32), np.ascontiguousarray(at, np.float64)
    phases = np.ascontiguousarray(phases, np.float32)
    if played.ndim != 2 or played.shape[1] != 2 or not len(played):
        raise ValueError("samples must be [1 or more, 2]")
    if not phases.shape[1] % 2 or phases.size > _MOST_WEIGHTS:
        raise ValueError(f"phases must be [up, odd], at most {_MOST_WEIGHTS}")
    if at.size and not at.min() >= 0:
        raise ValueError("places must be 0 or more")
    out = np.empty((at.size, 2), np.float32)
    sizes = phases.ctypes.data, *phases.shape
    _LIBRARY.luthier_read_warped(played.ctypes.data, len(played), *sizes, at.ctypes.data, at.size, out.ctypes.data)
    return out
