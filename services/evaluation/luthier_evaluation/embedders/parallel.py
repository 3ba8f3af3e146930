"""Windows of audio heard at the same time, each by one thread.

torch would divide each operation among the cores. Its threads then wait for each other thousands of times a second,
and spin while they do, which costs most where something else uses the cores, too.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

Heard = TypeVar("Heard")


@cache
def _pool() -> ThreadPoolExecutor:
    """As many threads as torch would take (by the cores, or OMP_NUM_THREADS); from now on an operation has one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    return ThreadPoolExecutor(threads, "window", torch.set_num_threads, (1,))


def in_parallel(of: Callable[[Tensor], Heard], pieces: Iterable[Tensor]) -> list[Heard]:
    """What `of` makes of each piece, in their order, without gradients."""

    def heard(piece: Tensor) -> Heard:
        with torch.inference_mode():
            return of(piece)

    return list(_pool().map(heard, pieces))
