"""What a recipe works with: the request, the store, a scratch folder, and someone to tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest
from luthier_kit.artifacts import Artifacts
from luthier_kit.runs import Run
from luthier_training.dataset import MAX_MANIFEST_BYTES, Dataset, parse, registered_as
from luthier_training.ranks import ALONE, Ranks
from luthier_training.reporting import Follower, Reporter

SMALL = 10_000_000
"""Parameters below which a second thread costs more than it brings (measured: the tiny autoencoder takes
twice as long).
"""


@dataclass(frozen=True)
class Job:
    """One attempt at a run; `run` is its state when the attempt began, `threads` 0 leaves their number to us."""

    run: Run
    request: CreateTrainingRunRequest
    store: Artifacts
    reporter: Reporter | Follower
    device: str
    scratch: Path
    threads: int = 0
    ranks: Ranks = ALONE

    def dataset(self) -> Dataset:
        """The data set of the request, verified, by the name and number under which it is registered."""
        manifest = self.request.dataset
        found = parse(self.store.read(manifest, max_bytes=MAX_MANIFEST_BYTES))
        return replace(found, name=registered_as(self.store, found.name, manifest.sha256))

    def choose_threads(self, parameters: int) -> None:
        """As many threads as asked for; else torch's own choice, and one where a model is too small to share."""
        if self.threads or parameters < SMALL:
            torch.set_num_threads(self.threads or 1)

    def folder(self, name: str) -> Path:
        """A folder of this attempt's own."""
        path = self.scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path
