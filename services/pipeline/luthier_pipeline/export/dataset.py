"""The data set that is written: its manifest, and what of it every format asks."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from luthier.curation.v1.curation_pb2 import ExportDatasetResponse
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier_kit.rpc import SPLITS, InvalidRequest
from luthier_kit.store import Store
from luthier_pipeline.console import Progress
from luthier_pipeline.export.columns import audio_file_name
from luthier_pipeline.export.folder import CLIP_FILE

Format = Literal["audiofolder", "parquet", "webdataset"]


@dataclass(frozen=True)
class FrozenDataset:
    """A version of a data set. `exported_at`: when it was frozen, None where its entry is gone.

    `progress` counts its clips as they are written.
    """

    name: str
    version: int
    manifest: DatasetManifest
    exported_at: datetime | None
    progress: Progress

    @cached_property
    def _by_split(self) -> dict[str, list[DatasetRow]]:
        found = defaultdict[str, list[DatasetRow]](list)
        for row in self.manifest.rows:
            found[row.split].append(row)
        return found

    @property
    def splits(self) -> Sequence[str]:
        """Those that have clips: train, validation, test."""
        return [split for split in SPLITS if split in self._by_split]

    @cached_property
    def suffixes(self) -> Sequence[str]:
        """Of the audio files, without the dot, the most frequent first: `flac`, `wav`, …"""
        counts = Counter(audio_file_name(row).rpartition(".")[2] for row in self.manifest.rows)
        return sorted(counts, key=lambda suffix: (-counts[suffix], suffix))

    def rows(self, split: str) -> Sequence[DatasetRow]:
        """The clips of a split, by id."""
        return self._by_split[split]


def read(store: Store, exported: ExportDatasetResponse) -> FrozenDataset:
    """The data set that was exported. Raises InvalidRequest MANIFEST_INVALID, also where a row names no split or could
    not be a file of its own in the folder."""
    manifest = store.get(DatasetManifest, exported.manifest, reason="MANIFEST_INVALID")
    for row in manifest.rows:
        if row.split not in SPLITS or not CLIP_FILE.fullmatch(audio_file_name(row)):
            text = f"clip {row.clip_id[:80]!r} of split {row.split[:80]!r} in {row.audio.key[:80]!r} cannot be written"
            raise InvalidRequest(reason="MANIFEST_INVALID", violations=[("manifest.rows", text)])
    entry = store.series(DatasetVersion, f"datasets/{exported.name}").entry(exported.version)
    has_time = entry is not None and entry.HasField("exported_at")
    progress = Progress("written", len(manifest.rows), sum(row.audio.size_bytes for row in manifest.rows))
    return FrozenDataset(
        exported.name,
        exported.version,
        manifest,
        entry.exported_at.ToDatetime() if entry is not None and has_time else None,
        progress,
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
