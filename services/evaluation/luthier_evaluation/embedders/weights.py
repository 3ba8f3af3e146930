"""The files of weights that embedders open: safetensors, written by `luthier_evaluation.conversion`.

Beside its tensors the header says whose they are: NAME, SOURCE, SOURCE_SHA256, and of a tagger CLASSES. The same
weights give the same bytes on every machine, so a file's digest names them; safetensors' own writer orders the keys of
such a header by chance.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import InvalidRequest

NAME: Final = "luthier.embedder"
SOURCE: Final = "source"
SOURCE_SHA256: Final = "source_sha256"
CLASSES: Final = "classes"
INVALID: Final = "WEIGHTS_INVALID"
MAX_HEADER_BYTES: Final = 16 << 20
MAX_CLASSES_BYTES: Final = 1 << 20
MAX_CLASSES: Final = 10_000
_NAMED: Final = 5  # tensors that an error names; the rest are counted
_ALIGNMENT: Final = 8
FLOATING: Final = ("F64", "F32", "F16", "BF16")
"""Number formats of weights, by safetensors' names; embedders compute in float32."""


@dataclass(frozen=True)
class Weights:
    """An embedder's weights: float32 tensors by name, the file's digest, where they are from, class names, and all that
    the header says.
    """

    tensors: Mapping[str, torch.Tensor]
    sha256: str
    source: str
    classes: tuple[str, ...]
    header: Mapping[str, str]


def read_weights(path: Path, embedder: str, shapes: Mapping[str, Sequence[int]]) -> Weights:
    """Weights of `embedder`, whose tensors have exactly these names and shapes.

    InvalidRequest WEIGHTS_INVALID where they do not: names and shapes are compared before a tensor is allocated. Every
    value is finite.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(8)
            length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0
            if not 2 <= length <= MAX_HEADER_BYTES:
                raise _invalid(path, "is not a safetensors file")
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with safe_open(path, "pt") as opened:
            said = opened.metadata() or {}
            if said.get(NAME) != embedder:
                raise _invalid(path, f"holds the weights of {said.get(NAME, 'no embedder')[:80]!r}, not of {embedder}")
            _compare(path, {name: opened.get_slice(name) for name in opened.keys()}, shapes)  # noqa: SIM118
            tensors = {name: opened.get_tensor(name).to(torch.float32) for name in shapes}
    except (OSError, SafetensorError) as error:
        raise _invalid(path, f"cannot be read: {error}") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise _invalid(path, f"holds NaN or infinity in {name}")
    return Weights(tensors, digest, said.get(SOURCE, "")[:200], _classes(path, said.get(CLASSES, "[]")), said)


def _compare(path: Path, stored: Mapping[str, object], shapes: Mapping[str, Sequence[int]]) -> None:
    missing, unexpected = sorted(set(shapes) - set(stored)), sorted(set(stored) - set(shapes))
    wrong = [
        f"{name} is {held.get_dtype()} {held.get_shape()}, must be of {', '.join(FLOATING)} and {list(shapes[name])}"  # type: ignore[attr-defined]
        for name, held in stored.items()
        if name in shapes and (held.get_shape() != list(shapes[name]) or held.get_dtype() not in FLOATING)  # type: ignore[attr-defined]
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another kind", wrong))
        if names
    ]
    if faults:
        raise _invalid(path, f"does not fit: {', '.join(faults)}")


def _classes(path: Path, text: str) -> tuple[str, ...]:
    try:
        names = read_json(text.encode(), max_bytes=MAX_CLASSES_BYTES, max_values=MAX_CLASSES + 1, max_depth=1)
    except ValueError as error:
        raise _invalid(path, f"states its classes wrongly: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid(path, "states its classes wrongly: must be a list of names")
    return tuple(names)


def _invalid(path: Path, what: str) -> InvalidRequest:
    return InvalidRequest(f"{path.name} {what}"[:500], reason=INVALID)


def write_weights(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> str:
    """Writes float32 tensors and a header as safetensors (huggingface.co/docs/safetensors, *Format*); the file's
    sha256. Equal tensors and header give equal bytes.
    """
    stored = {
        name: tensors[name].detach().to(device="cpu", dtype=torch.float32).contiguous() for name in sorted(tensors)
    }
    entries: dict[str, object] = {"__metadata__": dict(sorted(header.items()))}
    at = 0
    for name, tensor in stored.items():
        entries[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [at, at + 4 * tensor.numel()],
        }
        at += 4 * tensor.numel()
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in (
            struct.pack("<Q", len(text)),
            text,
            *(t.numpy().astype("<f4").tobytes() for t in stored.values()),
        ):
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()
