"""Data sets leave: manifest and metadata as blobs, registered in the numbered series `datasets/<name>/<n>.json`."""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from luthier_curation.content import Json
from luthier_curation.datasets import Dataset, SplitSummary, audio_folder_metadata, summaries
from luthier_curation.refs import ref_to_dict, to_ref
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import NotFound

MAX_MANIFEST_BYTES = 1 << 30


@dataclass(frozen=True)
class Export:
    """A registered version of a data set."""

    name: str
    version: int
    manifest: Json
    splits: list[SplitSummary]
    unchanged: bool

    @property
    def download_path(self) -> str:
        """Path below the web address that downloads it as a ZIP in AudioFolder layout."""
        return f"/datasets/{self.name}/{self.version}.zip"


def publish(store: Artifacts, dataset: Dataset, exported_by: str) -> Export:
    """Store the manifest and register it, unless the newest version already is this manifest."""
    manifest = ref_to_dict(store.put_bytes("manifests", dataset.manifest(), "json", "application/json"))
    newest = store.latest(_series(dataset.name))
    if newest is not None and newest[1]["manifest"]["sha256"] == manifest["sha256"]:
        return _export(dataset.name, *newest, unchanged=True)
    splits = summaries(dataset)
    for summary in splits:
        lines = audio_folder_metadata(dataset.split(summary.split))
        summary.metadata = ref_to_dict(store.put_bytes("metadata", lines, "jsonl", "application/jsonl"))
    entry = {
        "manifest": manifest,
        "collection": dataset.collection,
        "splits": [asdict(summary) for summary in splits],
        "exported_by": exported_by,
        "exported_at_ms": time.time_ns() // 1_000_000,
    }
    version = store.append(_series(dataset.name), entry)
    return _export(dataset.name, version, entry, unchanged=False)


def find(store: Artifacts, name: str, version: int) -> Export:
    """A version that was registered. NotFound."""
    entry = store.entry(_series(name), version) if version > 0 else None
    if entry is None:
        raise NotFound(f"no data set {name} version {version}", reason="DATASET_NOT_FOUND", name=name)
    return _export(name, version, entry, unchanged=True)


def newest(store: Artifacts) -> list[tuple[Export, dict[str, Any]]]:
    """The newest version of every data set, by name, with its entry."""
    found = []
    for name in store.names("datasets/"):
        if (entry := store.latest(_series(name))) is not None:
            found.append((_export(name, *entry, unchanged=True), entry[1]))
    return found


def manifest_bytes(store: Artifacts, export: Export) -> bytes:
    """The manifest of a registered version, verified."""
    return store.read(to_ref(export.manifest), max_bytes=MAX_MANIFEST_BYTES)


def rows(manifest: bytes) -> list[Json]:
    """The rows of a manifest."""
    return json.loads(manifest)["rows"]


def _series(name: str) -> str:
    return f"datasets/{name}"


def _export(name: str, version: int, entry: dict[str, Any], *, unchanged: bool) -> Export:
    splits = [SplitSummary(**summary) for summary in entry["splits"]]
    return Export(name, version, entry["manifest"], splits, unchanged)
