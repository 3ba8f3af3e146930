"""The process that opens checkpoints: lists what is in them and writes the tensors that it is told, nothing else.

A `.ckpt` is opened by `torch.load(weights_only=True)` alone, mapped into memory, after its archive's own list of
members was held against the file's size. Questions and answers are lines of JSON (`sandbox.Process`):

    {"open": path}                                → what is in it
    {"write": {name: [number of the file, its name there]}, "to": path}  → {}
"""

import json
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy._core.multiarray import scalar
from safetensors.torch import load_file, save_file

from luthier_model.conversion.sandbox import Refused, confined

MAX_MEMBERS: Final = 200_000
MAX_PICKLE_BYTES: Final = 16 << 20  # of 100,000 tensors; a training checkpoint of the full-size model has some 2 MB
MAX_TENSORS: Final = 100_000
MAX_NAME_CHARS: Final = 500
MAX_ENTRIES: Final = 1000
TENSORS: Final = "state_dict"
LIGHTNING: Final = "pytorch-lightning_version"
ZIP: Final = b"PK\x03\x04"
PICKLE: Final = b"\x80"
HEADER: Final = b"{"  # of safetensors, after its length of 8 bytes
COUNTERS: Final = ("_ema.initted", "_ema.step")
"""Ends of names of tensors of one number, by which ema-pytorch counts the updates of a moving average."""
NUMBERS: Final[list[Callable[..., Any] | tuple[Callable[..., Any], str]]] = [
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
    (np.dtype, "numpy.dtype"),
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32")),
]
"""NumPy's single numbers, as learning rates and losses beside the weights often are; torch names them to allow them."""


@dataclass(frozen=True)
class Opened:
    """A file: what kind, its tensors, and what else lies beside them."""

    container: str
    tensors: Mapping[str, torch.Tensor]
    entries: list[str]
    step: int | None


def main() -> None:
    """Answers until there is no further question."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    confined()
    files: list[Opened] = []
    for line in sys.stdin:
        print(json.dumps(answered(line, files)), flush=True)


def answered(line: str, files: list[Opened]) -> dict[str, Any]:
    """The answer to a question; of a file that is refused the reason and a text. `files` are those open so far."""
    try:
        return _answer(json.loads(line), files)
    except Refused as error:
        return {"refused": error.reason, "text": str(error)}
    except MemoryError:
        return {"refused": "LIMIT_EXCEEDED", "text": "the file needs more memory than files of its size do"}
    except Exception as error:  # whatever a library raises over a hostile file
        return {"refused": "CHECKPOINT_UNREADABLE", "text": f"{type(error).__name__}: {error}"[:1000]}


def _answer(question: dict[str, Any], files: list[Opened]) -> dict[str, Any]:
    if "open" in question:
        files.append(opened(Path(question["open"])))
        return listing(files[-1])
    write(question["write"], files, Path(question["to"]))
    return {}


def opened(path: Path) -> Opened:
    """The tensors of a file; Refused when it is no checkpoint, or one that cannot be read without running its code."""
    with path.open("rb") as file:
        begin = file.read(9)
    if begin.startswith(ZIP):
        check_archive(path)
        return _checkpoint(path)
    if begin.startswith(PICKLE) and not begin.endswith(HEADER):  # a header's length may begin as a pickle does
        text = "the file is a pickle without an archive, as torch wrote before 1.6; save it again where it was made"
        raise Refused("LEGACY_FORMAT", text)
    try:
        return Opened("safetensors", load_file(path), [], None)
    except Exception as error:
        text = f"the file is neither a checkpoint of torch nor safetensors: {error}"
        raise Refused("CHECKPOINT_UNREADABLE", text[:300]) from None


def check_archive(path: Path) -> None:
    """Refused unless the archive is one that torch writes: members stored as they are, together no larger than the
    file, with one pickle of bounded size.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Refused("CHECKPOINT_UNREADABLE", f"the archive cannot be read: {error}"[:300]) from None
    pickles = [
        member for member in members if member.filename.count("/") == 1 and member.filename.endswith("/data.pkl")
    ]
    total = sum(member.file_size for member in members)
    compressed = [m for m in members if m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size]
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise Refused("TORCHSCRIPT", "the file is a TorchScript program, not a checkpoint")
    if len(members) > MAX_MEMBERS:
        raise Refused("ARCHIVE_REFUSED", f"the archive has {len(members)} members, at most {MAX_MEMBERS} are read")
    if compressed:
        text = f"{len(compressed)} members are compressed ({compressed[0].filename[:80]}); torch never compresses"
        raise Refused("ARCHIVE_REFUSED", text)
    if total > size:
        raise Refused("ARCHIVE_REFUSED", f"the archive says that it holds {total} bytes, and has {size}")
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        text = f"the archive must hold one data.pkl of at most {MAX_PICKLE_BYTES} bytes"
        raise Refused("ARCHIVE_REFUSED", text)


def _checkpoint(path: Path) -> Opened:
    try:
        with torch.serialization.safe_globals(NUMBERS):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        said = str(error).partition("WeightsUnpickler error: ")[2].partition("\n")[0] or str(error)
        raise Refused("PICKLE_REFUSED", said[:300]) from None
    if not isinstance(loaded, dict):
        raise Refused("NO_TENSORS", f"the file holds a {type(loaded).__name__}, not a state_dict")
    inner, entries = loaded.get(TENSORS), list[str]()
    found = inner if isinstance(inner, dict) else loaded
    if found is inner:
        entries = [str(name) for name in loaded if name != TENSORS]
        container = "lightning" if LIGHTNING in loaded else "state_dict"
    else:
        container = "plain"
    tensors = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    entries += [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if not tensors:
        raise Refused("NO_TENSORS", f"the file holds no tensors by name; its entries are {', '.join(entries)[:300]}")
    step = loaded.get("global_step")
    return Opened(container, tensors, entries[:MAX_ENTRIES], step if isinstance(step, int) else None)


def listing(file: Opened) -> dict[str, Any]:
    if len(file.tensors) > MAX_TENSORS:
        raise Refused("ARCHIVE_REFUSED", f"the file holds {len(file.tensors)} tensors, at most {MAX_TENSORS} are read")
    for name, tensor in file.tensors.items():
        if len(name) > MAX_NAME_CHARS:
            raise Refused("ARCHIVE_REFUSED", f"a tensor's name has {len(name)} characters, at most {MAX_NAME_CHARS}")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise Refused("ARCHIVE_REFUSED", f"{name[:200]} is no dense tensor")
        if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():  # repeated by strides of 0
            raise Refused("ARCHIVE_REFUSED", f"{name[:200]} says that it is larger than what the file has of it")
    return {
        "container": file.container,
        "entries": [name[:MAX_NAME_CHARS] for name in file.entries],
        "step": file.step,
        "tensors": {
            name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
            for name, tensor in file.tensors.items()
        },
        "counters": {
            name: float(tensor.reshape(-1)[0])
            for name, tensor in file.tensors.items()
            if name.endswith(COUNTERS) and tensor.numel() == 1
        },
    }


def write(wanted: dict[str, tuple[int, str]], files: list[Opened], path: Path) -> None:
    """Writes tensors as safetensors in float32: what the services compute with, and every half precision fits in it.

    The same tensors are the same bytes, so that registering them again changes nothing.
    """
    state: dict[str, torch.Tensor] = {}
    written: set[int] = set()
    for name, (number, stored) in wanted.items():
        tensor = files[number].tensors[stored].detach().to(torch.float32).contiguous()
        if tensor.data_ptr() in written or tensor.untyped_storage().nbytes() != tensor.numel() * tensor.itemsize:
            tensor = tensor.clone()  # safetensors takes no two tensors of one storage
        written.add(tensor.data_ptr())
        state[name] = tensor
    save_file(state, path, metadata={"format": "pt"})  # one key alone: more are written in an order drawn each time


if __name__ == "__main__":
    main()
