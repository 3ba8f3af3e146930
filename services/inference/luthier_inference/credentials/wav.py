"""Credentials of a WAV file, put behind its samples: they are hashed once, and nothing of them is written anew.

The library's own way of a WAV file reads it whole, several times, and writes it anew. Its C interface also signs a hash
that the caller computed (`c2pa_builder_sign_data_hashed_embeddable`; C2PA 2.2, 18.5, "Data Hash"); the package for
Python has no method for it, so it is called here. RIFF holds the manifest in a chunk named `C2PA` (C2PA 2.2, A.3.5).
"""

import ctypes
import hashlib
import json
from typing import BinaryIO, Final

import c2pa
from c2pa.c2pa import _lib as library

_MANIFEST: Final = b"application/c2pa"  # as it is, in no file format's clothes
_MAX_RIFF_BYTES: Final = (1 << 32) - 1
_BLOCK_BYTES: Final = 256 << 10
_HEADER: Final = 8  # of a chunk: its name and its size

_Bytes = ctypes.POINTER(ctypes.c_ubyte)
for _name, _arguments in (
    ("c2pa_signer_reserve_size", (ctypes.c_void_p,)),
    (
        "c2pa_builder_data_hashed_placeholder",
        (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.POINTER(_Bytes)),
    ),
    (
        "c2pa_builder_sign_data_hashed_embeddable",
        (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(_Bytes)),
    ),
):
    getattr(library, _name).argtypes = _arguments
    getattr(library, _name).restype = ctypes.c_int64


def holds_a_manifest_more(file: BinaryIO) -> bool:
    """Whether a file is RIFF of the form WAVE, whole chunks to its end, none of credentials: one can be added."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE" or int.from_bytes(head[4:8], "little") != size - _HEADER:
        return False
    at = 12
    while at < size:
        file.seek(at)
        chunk = file.read(_HEADER)
        if len(chunk) < _HEADER or chunk[:4] == b"C2PA":
            return False
        length = int.from_bytes(chunk[4:], "little")
        at += _HEADER + length + length % 2
    return at == size and size % 2 == 0


def add_manifest(file: BinaryIO, builder: c2pa.Builder, signer: c2pa.Signer) -> None:
    """Signs a file that `holds_a_manifest_more`, open for reading and writing, in place. RuntimeError where it cannot
    be signed: the file is then as it was.
    """
    reserved = _checked(library.c2pa_signer_reserve_size(signer._handle))
    made = _Bytes()
    length = _checked(
        library.c2pa_builder_data_hashed_placeholder(builder._handle, reserved, _MANIFEST, ctypes.byref(made))
    )
    library.c2pa_free(made)
    begin = file.seek(0, 2)
    end = begin + _HEADER + length
    if end + 1 - _HEADER > _MAX_RIFF_BYTES:
        raise RuntimeError("the file has no room for credentials: RIFF ends at 4 GiB")
    # The file's length is hashed as it will be; the chunk itself, which has no hash yet, is what the hash leaves out.
    size = (end + length % 2 - _HEADER).to_bytes(4, "little")
    digest = _digest(file, b"RIFF" + size, begin, bytes(length % 2))
    stated = {"name": "jumbf manifest", "alg": "sha256", "hash": list(digest), "pad": "",
              "exclusions": [{"start": begin, "length": _HEADER + length}]}  # fmt: skip
    signed = _checked(
        library.c2pa_builder_sign_data_hashed_embeddable(
            builder._handle, signer._handle, json.dumps(stated).encode(), _MANIFEST, None, ctypes.byref(made)
        )
    )
    manifest = ctypes.string_at(made, signed)
    library.c2pa_free(made)
    if signed != length:
        raise RuntimeError(f"credentials of {signed} bytes do not fit into the {length} that were reserved")
    file.seek(begin)
    file.write(b"C2PA" + length.to_bytes(4, "little") + manifest + bytes(length % 2))
    file.seek(4)
    file.write(size)


def _digest(file: BinaryIO, head: bytes, end: int, behind: bytes) -> bytes:
    """SHA-256 of `head` in place of a file's beginning, the file up to `end`, then `behind`."""
    digest, left = hashlib.sha256(head), end - len(head)
    file.seek(len(head))
    while left:
        block = file.read(min(left, _BLOCK_BYTES))
        if not block:
            raise RuntimeError("the file has become shorter while it was signed")
        digest.update(block)
        left -= len(block)
    digest.update(behind)
    return digest.digest()


def _checked(answer: int) -> int:
    """What a function of the library answered; RuntimeError with what it says of it where that is a fault."""
    if answer >= 0:
        return answer
    told = library.c2pa_error()
    message = ctypes.string_at(told).decode(errors="replace") if told else "no reason was given"
    if told:
        library.c2pa_free(told)
    raise RuntimeError(message)
