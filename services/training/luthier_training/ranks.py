"""Several processes train one model: torchrun starts them, each is a rank, rank 0 leads.

Data-parallel training (Li 2020, without its overlap): each rank computes its rows of every batch, gradients are
averaged before they are clipped, so all ranks hold the same weights at every step, and the same as one process would.
Draws are made for the whole batch and cut, so the course of a run does not depend on the number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.overrides import TorchFunctionMode

from luthier_kit.errors import InvalidRequest
from luthier_training.reporting import RankLost

PATIENCE = timedelta(days=1)
"""Ranks wait for each other as long as encoding, validating and storing a checkpoint may take. torchrun ends them when
one dies.
"""


@dataclass(frozen=True)
class Ranks:
    """This process among those that work on a run; the default is one process alone."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this one reports, writes checkpoints and registers."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """Its rows of a batch. Raises InvalidRequest when the processes cannot share it evenly."""
        if batch_size % self.count:
            bound = f"must be a multiple of the {self.count} processes of a run, got {batch_size}"
            raise InvalidRequest(violations=[("fine_tune.batch_size", bound)])
        share = batch_size // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def own_first(self, count: int) -> list[int]:
        """Indices of work that all need and each may do: its own share first, so that little is done twice."""
        return sorted(range(count), key=lambda index: index % self.count != self.rank)

    def means(self, values: Sequence[float]) -> list[float]:
        """The means over all ranks."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        self._sum([tensor])
        return [value / self.count for value in tensor.tolist()]

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Gradients become their means over all ranks."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self._sum(gradients)
        for gradient in gradients:
            gradient.div_(self.count)

    def part(self) -> None:
        """The work in common is done; rank 0 may store and register for a long time."""
        if self.count > 1:
            distributed.destroy_process_group()

    def _sum(self, tensors: Sequence[torch.Tensor]) -> None:
        try:
            for work in [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()
        except RuntimeError as e:
            raise RankLost(f"a rank does not answer: {e}") from None


ALONE = Ranks()


def join(device: str) -> Ranks:
    """Meets the other ranks that torchrun started, if it did; on CUDA each has the GPU of its number."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks(device=device)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    except RuntimeError as e:
        raise RankLost(f"the ranks do not meet: {e}") from None
    return Ranks(int(os.environ["RANK"]), count, device)


class CutDraws(TorchFunctionMode):
    """Random tensors whose first dimension is a rank's rows are drawn for the whole batch, then cut."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function not in (torch.randn_like, torch.bernoulli):
            return function(*arguments, **(options or {}))
        own, *rest = arguments
        whole = own.repeat(self._ranks.count, *[1] * (own.ndim - 1))
        return function(whole, *rest, **(options or {}))[self._ranks.rows(len(whole))]
