"""A data set as a ZIP in Hugging Face AudioFolder layout, made while it is sent.

One clip is on disk and a megabyte in memory at a time.
"""

import io
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from luthier_curation.content import Json
from luthier_curation.datasets import SPLITS, audio_folder_metadata, file_name
from luthier_curation.refs import to_ref
from luthier_kit.artifacts import Artifacts

CHUNK_BYTES = 1 << 20
EPOCH = (1980, 1, 1, 0, 0, 0)
"""of every file in the archive: the same data set is the same bytes."""


class _Outlet(io.RawIOBase):
    """A file that cannot seek; what was written is taken out again and again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def stream(store: Artifacts, manifest: bytes, rows: list[Json], scratch: Path) -> Iterator[bytes]:
    """The ZIP, piece by piece: `manifest.json`, and per split `metadata.jsonl` and the audio. FLAC is not squeezed.

    An audio file that is missing or corrupt ends the stream with the store's error: a cut download, never a silent gap.
    """
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w") as archive, tempfile.TemporaryDirectory(dir=scratch) as folder:
        archive.writestr(_entry("manifest.json", len(manifest)), manifest)
        for split in SPLITS:
            members = [row for row in rows if row["split"] == split]
            if not members:
                continue
            lines = audio_folder_metadata(members)
            archive.writestr(_entry(f"{split}/metadata.jsonl", len(lines)), lines)
            for row in members:
                yield outlet.take()
                path = store.fetch(to_ref(row["audio"]), Path(folder))
                yield from _copied(archive, outlet, path, f"{split}/{file_name(row)}")
                path.unlink()
    yield outlet.take()


def resumed(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """A stream whose first piece was taken already, to learn whether it begins at all."""
    yield first
    yield from rest


def _copied(archive: zipfile.ZipFile, outlet: _Outlet, path: Path, name: str) -> Iterator[bytes]:
    with path.open("rb") as audio, archive.open(_entry(name, path.stat().st_size), "w") as member:
        while piece := audio.read(CHUNK_BYTES):
            member.write(piece)
            yield outlet.take()


def _entry(name: str, size_bytes: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.file_size = size_bytes
    entry.external_attr = 0o644 << 16
    return entry
