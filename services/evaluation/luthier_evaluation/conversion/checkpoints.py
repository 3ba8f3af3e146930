"""Checkpoints of torch, opened by the sandboxed reader of `luthier_model.conversion` and nothing else: another process
without network, with limits, by `torch.load(weights_only=True)`. Safetensors go the same way.
"""

import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file

from luthier_evaluation.conversion.base import ConversionError
from luthier_model.conversion import sandbox
from luthier_model.conversion.sandbox import Limits, Refused

READER: Final = (sys.executable, "-m", "luthier_model.conversion.reader")
MAX_FILE_BYTES: Final = 8 << 30  # laion_clap's checkpoint with its optimizer has 2.4 GB
OBJECTS_BYTES: Final = 1 << 30  # memory for what is not weights
CPU_S, WALL_S = 60, 300.0
READ_BYTES_PER_S: Final = 5 << 20  # of a slow disk

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a file, in float32, by the names that were chosen; the file's digest; what was left, counted by its
    first part.
    """

    tensors: dict[str, torch.Tensor]
    sha256: str
    left_out: Mapping[str, int]


def read_checkpoint(path: Path, choose: Callable[[Mapping[str, Shape]], Mapping[str, str]]) -> Checkpoint:
    """`choose` gets the file's names and shapes, and gives for each name that is wanted the file's. ConversionError
    says why not; nothing is allocated for tensors that were not chosen.
    """
    if not path.is_file():
        raise ConversionError("FILE_UNREADABLE", f"{path} is no file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ConversionError("FILE_TOO_LARGE", f"{path} has {size} bytes, at most {MAX_FILE_BYTES} are read")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    limits = Limits(
        memory_bytes=4 * size + OBJECTS_BYTES,
        cpu_s=CPU_S + size // READ_BYTES_PER_S,
        file_bytes=2 * size + (16 << 20),  # half precision is written in float32
        wall_s=WALL_S + size / READ_BYTES_PER_S,
    )
    with tempfile.TemporaryDirectory(prefix="luthier-weights-") as folder:
        written = Path(folder) / "weights.safetensors"
        try:
            with sandbox.started(list(READER), limits, written) as reader:
                listed = reader.ask({"open": str(path.absolute())})
                shapes = {str(name): tuple(map(int, stored[1])) for name, stored in listed["tensors"].items()}
                chosen = choose(shapes)
                reader.ask({"write": {name: [0, stored] for name, stored in chosen.items()}, "to": str(written)})
        except Refused as error:
            raise ConversionError(error.reason, str(error)) from None
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ConversionError("READER_DIED", f"the process that read {path} answered nonsense: {error!r}") from None
        tensors = load_file(written)
    return Checkpoint(tensors, digest, counted(set(shapes) - set(chosen.values()), map(str, listed["entries"])))


def counted(names: Iterable[str], entries: Iterable[str]) -> dict[str, int]:
    """Tensors that were left, by the first part of their names, and entries that are no tensors, each once."""
    return dict(sorted(Counter([*(name.split(".")[0] for name in names), *entries]).items()))


def by_prefix(found: Mapping[str, Shape], wanted: Mapping[str, Shape], prefixes: tuple[str, ...]) -> dict[str, str]:
    """The wanted name -> the file's, by the first prefix under which the file has all; ConversionError names what the
    best of them lacks.
    """
    absent: dict[str, list[str]] = {
        prefix: [name for name in wanted if prefix + name not in found] for prefix in prefixes
    }
    best = min(prefixes, key=lambda prefix: len(absent[prefix]))
    if missing := absent[best]:
        text = f"{len(missing)} of {len(wanted)} tensors are missing: {', '.join(best + name for name in missing[:5])}"
        raise ConversionError("WEIGHTS_DO_NOT_FIT", text)
    return {name: best + name for name in wanted}
