"""What a recipe works with: the request, the store, a scratch folder, and where to report."""

from dataclasses import dataclass
from pathlib import Path

import torch

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest
from luthier_kit.store import Store
from luthier_training.ranks import ALONE, Ranks
from luthier_training.reporting import Reporter

SINGLE_THREAD_PARAMETERS = 10_000_000
"""Below this a second thread costs more than it brings (measured: the tiny autoencoder takes twice as long)."""


@dataclass(frozen=True)
class Job:
    """One attempt at a run; `threads` 0 leaves their number to us. `scratch` is this rank's own folder, `shared` one
    that the ranks on a machine have in common; None = there are no others.
    """

    run_id: str
    request: CreateTrainingRunRequest
    store: Store
    reporter: Reporter
    device: str
    scratch: Path
    threads: int = 0
    ranks: Ranks = ALONE
    shared: Path | None = None

    def choose_threads(self, parameters: int) -> None:
        """As many threads as asked for; else torch's own choice, and one where a model is too small to share."""
        if self.threads or parameters < SINGLE_THREAD_PARAMETERS:
            torch.set_num_threads(self.threads or 1)

    def folder(self, name: str) -> Path:
        """A folder of this attempt's own."""
        path = self.scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def shared_folder(self, name: str) -> Path:
        """A folder of this attempt that all its ranks on one machine have in common; it is gone when rank 0 ends."""
        path = (self.shared or self.scratch) / name
        path.mkdir(parents=True, exist_ok=True)
        return path
