"""Data sets and artifacts by name, files on disk to and from the store."""

import io
import json
import re
import time
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.curation_pb2 import ExportDatasetResponse
from luthier_kit.artifacts import Artifacts
from luthier_kit.checks import Checks
from luthier_kit.errors import InvalidRequest, NotFound

MAX_MANIFEST_BYTES = 1 << 30


def plain(message: Any) -> dict[str, Any]:
    """A message as JSON with the field names of the contract."""
    return MessageToDict(message, preserving_proto_field_name=True)


def dataset(store: Artifacts, name: str) -> tuple[ArtifactRef, str]:
    """The manifest of `name` (its newest version) or `name@n`, and which version that is. Raises NotFound."""
    base, _, number = name.partition("@")
    series = store.series(f"datasets/{base}")
    chosen = [row for row in series if not number or str(row[0]) == number]
    if not chosen:
        known = ", ".join(store.names("datasets/")) or "none"
        raise NotFound(f"no data set {name}; there are: {known}", reason="DATASET_NOT_FOUND")
    sequence, document = chosen[-1]
    return ParseDict(document["manifest"], ArtifactRef(), ignore_unknown_fields=True), f"{base}@{sequence}"


def lay_out(store: Artifacts, exported: ExportDatasetResponse, folder: Path) -> int:
    """Writes a data set as a Hugging Face AudioFolder: `<split>/metadata.jsonl` beside the audio. Returns clips.

    Files that are already there with the right size stay.
    """
    rows = json.loads(store.read(exported.manifest, max_bytes=MAX_MANIFEST_BYTES))["rows"]
    for split in exported.splits:
        if split.clips:
            save(store, split.metadata, folder / split.split / "metadata.jsonl")
    for row in rows:
        audio = ParseDict(row["audio"], ArtifactRef(), ignore_unknown_fields=True)
        target = folder / row["split"] / f"{row['clip_id']}{Path(audio.key).suffix}"
        if not target.exists() or target.stat().st_size != audio.size_bytes:
            save(store, audio, target)
    return len(rows)


def save(store: Artifacts, ref: ArtifactRef, target: Path) -> None:
    """Copies an artifact to a file of its own, verified, never half written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.parent / f".{target.name}.part"
    scratch.mkdir(exist_ok=True)
    try:
        fetched = store.fetch(ref, scratch)
        fetched.chmod(0o644)  # the store keeps its files to itself; this copy is the user's
        fetched.replace(target)
    finally:
        for left in scratch.iterdir():
            left.unlink()
        scratch.rmdir()


def put(store: Artifacts, kind: str, path: Path, media_type: str) -> ArtifactRef:
    """Stores a file of the operator. Raises InvalidRequest when it cannot be read."""
    try:
        return store.put_file(kind, path, media_type=media_type)
    except OSError as error:
        bound = f"cannot be read: {error.strerror or error}"
        raise InvalidRequest(reason="FILE_UNREADABLE", violations=[(str(path), bound)]) from None


def as_name(text: str) -> str:
    """A collection or model name from any text: lower case, safe characters, at most 64."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "collection"
    return cleaned[:64]


def as_collection(name: str) -> str:
    """The name, when it is one that curation takes. Raises InvalidRequest."""
    checks = Checks()
    checks.name("collection", name)
    checks.done()
    return name


def ago(seconds_since_epoch: float) -> str:
    """`5 s ago` … `3 d ago`."""
    passed = time.time() - seconds_since_epoch
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed >= 2 * size:
            return f"{passed / size:.0f} {unit} ago"
    return f"{passed:.0f} s ago"


def table(rows: list[list[str]], header: list[str]) -> str:
    """Columns as wide as they need to be."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    out = io.StringIO()
    for row in [header, *rows]:
        out.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return out.getvalue().rstrip("\n")
