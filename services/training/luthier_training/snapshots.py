"""Checkpoints on their way to the store: copied while training waits, written while it goes on."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Snapshot:
    """Tensors as they were, and the numbers of the run as JSON."""

    tensors: dict[str, torch.Tensor]
    numbers: str

    def write(self, path: Path) -> None:
        """Writes them as one safetensors file."""
        save_file(self.tensors, path, metadata={"format": "pt", "progress": self.numbers})


class Buffers:
    """Memory of the CPU that checkpoints are copied to: the next one overwrites the one before."""

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def reserve(self, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        """Takes the memory of float32 tensors before the first copy: a page that is touched first takes longer than its
        copy."""
        for name, shape in shapes:
            self._held.setdefault(name, torch.empty(shape).fill_(0))

    def copy(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The tensors by name, each contiguous and apart from the others, until the next copy."""
        held = {}
        for name, tensor in tensors:
            buffer = self._held.get(name)
            if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype)
            held[name] = buffer.copy_(tensor.detach())
        self._held = held
        return held
