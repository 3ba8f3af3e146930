"""Memory that a computation takes, counted without doing it: on tensors that have shapes and no data."""

import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_ONE_AT_A_TIME = threading.RLock()


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In its block counts the bytes of storages that are alive, and the most at any time; `there` are not counted."""

    def __init__(self, there: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in there}

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_iter(found):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += self._sizes[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class _OnTheCpu(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Without a stand-in for CUDA's devices, which torch would take from the first thread that makes such tensors where
    there is no GPU, for the whole process: once that thread has ended, the process crashes.
    """

    avoid_device_init = False


@contextmanager
def without_data() -> Iterator[None]:
    """In the block tensors that this thread makes have shapes alone, and so have results; all stay on the CPU.

    One thread at a time: others wait for the block to end.
    """
    # the first backward pass of a process among tensors without data starts threads that no forked process can use
    torch.ones((), requires_grad=True).backward()  # type: ignore[no-untyped-call]
    move, here = torch.nn.Module.to, threading.get_ident()

    def to(module: torch.nn.Module, *to: Any, **options: Any) -> torch.nn.Module:
        """torch cannot move modules without data."""
        return module if threading.get_ident() == here else move(module, *to, **options)

    with _ONE_AT_A_TIME, mock.patch.object(torch.nn.Module, "to", to), _OnTheCpu(allow_non_fake_inputs=True):
        yield


def has_data(tensor: torch.Tensor) -> bool:
    """Whether there are numbers to look at."""
    return not isinstance(tensor, FakeTensor)


@contextmanager
def norms_in_float32() -> Iterator[None]:
    """In the block layer norms are computed in float32, as a GPU's autocast does and a CPU's does not."""
    norm = functional.layer_norm

    def in_float32(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        return norm(x.float(), *arguments, **options)

    with mock.patch.object(functional, "layer_norm", in_float32):
        yield
