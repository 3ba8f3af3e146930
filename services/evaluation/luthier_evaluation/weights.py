"""Where the weights of embedders are, and the embedders opened with them.

An operator brings them as `<name>.safetensors` in the folder that LUTHIER_METRIC_WEIGHTS names, or into the store
(`luthier metric-weights`): `metric-weights/<name>/<n>`, of which the highest n counts. A file in the folder goes before
the store's. Nothing is downloaded from anywhere else; an embedder without weights is absent, and reports say so.
"""

import hashlib
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.embedders import EMBEDDERS, Embedder
from luthier_kit.rpc import FailedPrecondition
from luthier_kit.store import Series, Store

SUFFIX = ".safetensors"


class Weights:
    """The weights at hand. Threads may share it; what was opened stays open."""

    def __init__(self, store: Store, folder: Path | None) -> None:
        """`folder`: of the operator's files, None = only the store's."""
        self._store, self._folder = store, folder
        self._digests: dict[tuple[Path, int, int], str] = {}  # of files by path, size and time of change
        self._opened: dict[str, Embedder] = {}  # by digest
        self._opening = threading.Lock()

    def at_hand(self) -> list[pb.EvaluatedBy]:
        """The embedders whose weights are there, in the order of EMBEDDERS."""
        found = []
        for name in EMBEDDERS:
            if path := self._file(name):
                found.append(pb.EvaluatedBy(embedder=name, weights_sha256=self._digest_of(path)))
            elif newest := self._series(name).latest():
                found.append(pb.EvaluatedBy(embedder=name, weights_sha256=newest[1].weights.sha256))
        return found

    def register(self, brought: pb.MetricWeights) -> bool:
        """Makes these the weights of their embedder that the store has; False when they were. They are opened first:
        InvalidRequest WEIGHTS_INVALID where they do not fit.
        """
        series = self._series(brought.name)
        newest = series.latest()
        if newest and newest[1].weights.sha256 == brought.weights.sha256:
            return False
        with tempfile.TemporaryDirectory() as folder:
            EMBEDDERS[brought.name].open(self._store.blobs.fetch(brought.weights, Path(folder)))
        series.append(brought)
        return True

    def embedder(self, name: str) -> Embedder:
        """This embedder with the weights that count now. FailedPrecondition WEIGHTS_ABSENT where there are none."""
        for one in self.at_hand():
            if one.embedder == name:
                return self.embedders([one])[name]
        text = f"the weights of {EMBEDDERS[name].title} are not there: {EMBEDDERS[name].bring}"
        raise FailedPrecondition(text, reason="WEIGHTS_ABSENT", embedder=name)

    def embedders(self, wanted: Sequence[pb.EvaluatedBy]) -> Mapping[str, Embedder]:
        """These embedders with these very weights. FailedPrecondition WEIGHTS_GONE where they are not at hand any more,
        InvalidRequest WEIGHTS_INVALID where they are none of this embedder.
        """
        with self._opening:
            for one in wanted:
                if one.weights_sha256 not in self._opened:
                    self._opened[one.weights_sha256] = self._open(one)
            return {one.embedder: self._opened[one.weights_sha256] for one in wanted}

    def _open(self, wanted: pb.EvaluatedBy) -> Embedder:
        kind = EMBEDDERS[wanted.embedder]
        if (path := self._file(wanted.embedder)) and self._digest_of(path) == wanted.weights_sha256:
            return kind.open(path)
        for _, known in self._series(wanted.embedder).entries():
            if known.weights.sha256 == wanted.weights_sha256:
                with tempfile.TemporaryDirectory() as folder:
                    return kind.open(self._store.blobs.fetch(known.weights, Path(folder)))
        text = f"the weights of {wanted.embedder} that this evaluation began with ({wanted.weights_sha256}) are gone"
        raise FailedPrecondition(f"{text}: bring them back, or evaluate anew", reason="WEIGHTS_GONE")

    def _file(self, name: str) -> Path | None:
        path = self._folder / f"{name}{SUFFIX}" if self._folder else None
        return path if path and path.is_file() else None

    def _digest_of(self, path: Path) -> str:
        stat = path.stat()
        known = (path, stat.st_size, stat.st_mtime_ns)
        if known not in self._digests:
            with path.open("rb") as file:
                self._digests[known] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[known]

    def _series(self, name: str) -> Series[pb.MetricWeights]:
        return self._store.series(pb.MetricWeights, f"metric-weights/{name}")
