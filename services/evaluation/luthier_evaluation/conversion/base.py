"""What a converter is: it reads published weights from a file, folder or installed package, and gives tensors as the
embedder names them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch


class ConversionError(Exception):
    """Nothing was converted: `reason` in UPPER_SNAKE, and a text for people."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__("".join(char if char.isprintable() else " " for char in text)[:1000])


@dataclass(frozen=True)
class Published:
    """Weights as the embedder wants them, and what was found.

    `tensors`: by the embedder's names, floating-point. `source`: package and version, or the file's name, without its
    folder. `source_sha256`: of the file that holds the numbers. `classes`: names of a tagger's classes, in the order of
    its logits. `left_out` counts what the source holds besides by what it is; `notes` are for people. `header`: further
    entries of the file's header, which the embedder reads.
    """

    tensors: Mapping[str, torch.Tensor]
    source: str
    source_sha256: str
    classes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    header: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Converter:
    """How the weights of one embedder are read.

    `read` gets what the caller named, None where nothing was named, and raises ConversionError. `source` tells people
    what to name. `shapes` gives the names and shapes that the embedder wants.
    """

    source: str
    read: Callable[[Path | None], Published]
    shapes: Callable[[], Mapping[str, tuple[int, ...]]]
