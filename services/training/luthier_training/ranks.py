"""Several processes train one model: torchrun starts them, each is a rank; rank 0 reports, stores and registers.

Data-parallel training (Li 2020, without its overlap): each rank computes its rows of every batch, and gradients are
averaged before they are clipped, so all ranks hold the same weights at every step, and the same as one process would.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from luthier_kit.rpc import InvalidRequest
from luthier_training.reporting import RankLost

TIMEOUT = timedelta(days=1)
"""Ranks wait for each other as long as encoding, validating and storing a checkpoint may take. torchrun ends them when
one dies.
"""

BATCH_FIELD = "fine_tune.batch_size"
MAX_PATH_BYTES = 4096
"""Of Linux."""


@dataclass(frozen=True)
class Ranks:
    """This process among the `count` that work on a run; the default is one process alone."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    def rows(self, batch_size: int, field: str = BATCH_FIELD) -> slice:
        """Its rows of a batch. Raises InvalidRequest, with the field, when the processes cannot share it evenly."""
        if batch_size % self.count:
            bound = f"must be a multiple of the {self.count} processes of a run, got {batch_size}"
            raise InvalidRequest(violations=[(field, bound)])
        share = batch_size // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def own_first(self, count: int) -> list[int]:
        """Indices of work whose results all need and each may do: its own share first, so that little is done twice."""
        return sorted(range(count), key=lambda index: index % self.count != self.rank)

    def mean(self, value: float) -> float:
        """The mean over all ranks."""
        if self.count == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        self.average(tensor)
        return float(tensor)

    def average(self, tensor: torch.Tensor) -> None:
        """The tensor becomes its mean over all ranks. Raises RankLost when one has died."""
        if self.count == 1:
            return
        try:
            distributed.all_reduce(tensor)
        except RuntimeError as error:
            raise RankLost(f"a rank does not answer: {error}") from None
        tensor.div_(self.count)

    def shared(self, folder: Path) -> Path:
        """Rank 0's folder, where all ranks are on one machine and see it; else this rank's own, which is given. Raises
        RankLost when one has died.
        """
        if self.count == 1:
            return folder
        name = os.fsencode(folder)
        told = torch.zeros(MAX_PATH_BYTES, dtype=torch.uint8)
        told[: len(name)] = torch.frombuffer(bytearray(name), dtype=torch.uint8)
        told = told.to(self.device)
        try:
            distributed.broadcast(told, 0)
        except RuntimeError as error:
            raise RankLost(f"a rank does not answer: {error}") from None
        one_machine = int(os.environ.get("LOCAL_WORLD_SIZE", self.count)) == self.count
        first = Path(os.fsdecode(bytes(told.tolist()).rstrip(b"\0")))
        return first if one_machine and first.is_dir() else folder

    def close(self) -> None:
        """The work in common is done; rank 0 may store and register for a long time."""
        if self.count > 1:
            distributed.destroy_process_group()


ALONE = Ranks()


def join(device: str) -> Ranks:
    """Meets the other ranks that torchrun started, if it did; on CUDA each has the GPU of its number."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks(device=device)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    except RuntimeError as error:
        raise RankLost(f"the ranks do not meet: {error}") from None
    return Ranks(int(os.environ["RANK"]), count, device)
