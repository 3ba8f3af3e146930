"""FLAC out, through libFLAC itself.

libsndfile holds the same encoder, but has it work out an MD5 of all samples, which takes half of its time, and has
every sample go through one more array. Here a checksum is a choice: RFC 9639 (8.2) calls an MD5 of zeros "not known",
and each frame keeps a CRC of its own.

libFLAC comes with flacarray, whose wheel has it as a library that others can call; nothing else of flacarray is used.
It is the extra `flac` of this package, for those who write; without it this module cannot be imported.
"""

import ctypes
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_LEVEL: Final = 1  # of 8: takes as long as level 0, and 13 % fewer bytes
_FRAME_SAMPLES: Final = 4096  # of a frame: 2 % fewer bytes than with the level's own 1152, and fewer calls
_BITS: Final = 16
_BUFFER_BYTES: Final = 1 << 16  # more at a time and Linux takes larger pages for them, which it has to clear first

_MOST_CHANNELS: Final = 8
_PLANES: Final = ctypes.c_void_p * _MOST_CHANNELS
_OK, _FAILED = 0, 1  # what starts, and what a callback answers
_WRITE: Final = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p
)
_SEEK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)
_TELL: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64), ctypes.c_void_p)


def _load() -> ctypes.CDLL:
    """libFLAC, found as what flacarray's own library depends on: its file's name has a digest in it."""
    spec = find_spec("flacarray")
    if spec is None or spec.origin is None:
        raise ImportError("writing FLAC takes the package flacarray, which holds libFLAC: install luthier-music[flac]")
    library = ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libflacarray.so"))
    encoder, number, yes = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
    library.FLAC__stream_encoder_new.argtypes, library.FLAC__stream_encoder_new.restype = [], encoder
    library.FLAC__stream_encoder_delete.argtypes, library.FLAC__stream_encoder_delete.restype = [encoder], None
    for setting in ("channels", "bits_per_sample", "sample_rate", "compression_level", "blocksize"):
        getattr(library, f"FLAC__stream_encoder_set_{setting}").argtypes = [encoder, number]
    library.FLAC__stream_encoder_set_do_md5.argtypes = [encoder, yes]
    library.FLAC__stream_encoder_init_stream.argtypes = [encoder, _WRITE, _SEEK, _TELL, encoder, encoder]
    library.FLAC__stream_encoder_process.argtypes = [encoder, encoder, number]
    library.FLAC__stream_encoder_finish.argtypes = [encoder]
    library.FLAC__stream_encoder_get_resolved_state_string.argtypes = [encoder]
    library.FLAC__stream_encoder_get_resolved_state_string.restype = ctypes.c_char_p
    return library


_FLAC: Final = _load()


class FlacWriter:
    """A FLAC file of 16 bit that is being written: a context manager. Left by an exception the file is not whole."""

    def __init__(self, path: Path, sample_rate_hz: int, channels: int, *, md5: bool) -> None:
        """`md5`: whether the header has the MD5 of all samples, by which decoders check themselves. OSError where the
        file cannot be opened, ValueError for a rate or a number of channels that FLAC does not have (1 to 8)."""
        self._file, self._channels = path.open("wb", buffering=_BUFFER_BYTES), channels
        self._failure: BaseException | None = None  # of a callback: it cannot raise through libFLAC
        self._callbacks = _WRITE(self._on_write), _SEEK(self._on_seek), _TELL(self._on_tell)
        self._encoder = _FLAC.FLAC__stream_encoder_new()
        if not self._encoder:
            raise MemoryError
        settings = {"channels": channels, "bits_per_sample": _BITS, "sample_rate": sample_rate_hz}
        settings |= {"compression_level": _LEVEL, "blocksize": _FRAME_SAMPLES, "do_md5": md5}
        for setting, value in settings.items():
            getattr(_FLAC, f"FLAC__stream_encoder_set_{setting}")(self._encoder, value)
        if _FLAC.FLAC__stream_encoder_init_stream(self._encoder, *self._callbacks, None, None) != _OK:
            failure = self._failure or ValueError(f"FLAC has no {channels} channels of {sample_rate_hz} Hz")
            self._close()
            raise failure

    def write(self, steps: NDArray[np.int32]) -> None:
        """More samples [channels, frames], in steps of 16 bit. OSError where the file cannot be written."""
        if len(steps) != self._channels:
            raise ValueError(f"{len(steps)} channels for a file of {self._channels}")
        if steps.ndim != 2 or steps.dtype != np.int32 or not steps[0].flags.c_contiguous:
            raise ValueError("steps must be int32 [channels, frames], the frames of each channel side by side")
        if steps.shape[1] == 0:
            return
        first, apart = steps.ctypes.data, steps.strides[0]
        planes = _PLANES(*(first + channel * apart for channel in range(len(steps))))
        self._check(_FLAC.FLAC__stream_encoder_process(self._encoder, planes, steps.shape[1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._check(_FLAC.FLAC__stream_encoder_finish(self._encoder))
        finally:
            self._close()

    def _close(self) -> None:
        _FLAC.FLAC__stream_encoder_delete(self._encoder)
        del self._callbacks  # they hold this object, as it holds them
        self._file.close()

    def _check(self, done: int) -> None:
        if not done:
            state = _FLAC.FLAC__stream_encoder_get_resolved_state_string(self._encoder)
            raise self._failure or RuntimeError(f"libFLAC failed: {state.decode()}")

    def _on_write(self, _encoder: int, data: int, size: int, _samples: int, _frame: int, _client: int) -> int:
        return self._tried(lambda: self._file.write(ctypes.string_at(data, size)))

    def _on_seek(self, _encoder: int, place: int, _client: int) -> int:
        return self._tried(lambda: self._file.seek(place))

    def _on_tell(self, _encoder: int, place: "ctypes._Pointer[ctypes.c_uint64]", _client: int) -> int:
        return self._tried(lambda: place.__setitem__(0, self._file.tell()))

    def _tried(self, action: Callable[[], object]) -> int:
        """What a callback answers that does this."""
        try:
            action()
        except BaseException as error:  # also MemoryError and an interrupt: without an answer it is undefined
            self._failure = error
            return _FAILED
        return _OK
