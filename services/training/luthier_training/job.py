"""What a recipe works with: the request, the store, a scratch folder, and someone to tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest
from luthier_kit.artifacts import Artifacts
from luthier_kit.runs import Run
from luthier_training.dataset import MAX_MANIFEST_BYTES, Dataset, parse
from luthier_training.reporting import Reporter


@dataclass(frozen=True)
class Job:
    """One attempt at a run; `run` is its state when the attempt began."""

    run: Run
    request: CreateTrainingRunRequest
    store: Artifacts
    reporter: Reporter
    device: str
    scratch: Path

    def dataset(self) -> Dataset:
        """The data set of the request, verified."""
        return parse(self.store.read(self.request.dataset, max_bytes=MAX_MANIFEST_BYTES))

    def folder(self, name: str) -> Path:
        """A folder of this attempt's own."""
        path = self.scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path
