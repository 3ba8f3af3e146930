"""Sound and files: audio with ranges, waveforms, data sets as ZIP archives made while they are sent."""

import io
import itertools
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response, StreamingResponse

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier_curation import datasets
from luthier_curation.curation import Curation
from luthier_curation.peaks import DETAIL_COLUMNS, OVERVIEW_COLUMNS, waveform_of_dat
from luthier_curation.web.audio import AudioCache
from luthier_curation.web.details import stems_of
from luthier_kit.rpc import SPLITS, NotFound
from luthier_kit.store import MAX_DOCUMENT_BYTES, Store

IMMUTABLE = "private, max-age=604800, immutable"
BINARY = "application/octet-stream"
MEDIA_TYPES = {".flac": "audio/flac", ".wav": "audio/wav", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
CHUNK_BYTES = 1 << 20
EPOCH = (1980, 1, 1, 0, 0, 0)
"""of every file in the archive: the same data set is the same bytes."""


def routes(curation: Curation, cache: AudioCache, scratch: Path) -> APIRouter:
    """The routes of bytes."""
    router = APIRouter()

    @router.get("/clips/{clip_id}/audio")
    def audio(clip_id: str, v: str = "") -> Response:
        ref = curation.clip(clip_id).audio
        path = cache.path(ref)
        media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        return FileResponse(path, media_type=media_type, headers=_caching(ref, v))

    @router.get("/clips/{clip_id}/peaks.dat")
    def peaks(clip_id: str, v: str = "", zoomed: bool = False) -> Response:
        ref = curation.clip(clip_id).audio
        return Response(cache.waveform(ref, _columns(zoomed)), media_type=BINARY, headers=_caching(ref, v))

    @router.get("/clips/{clip_id}/peaks.json")
    def peaks_json(clip_id: str, v: str = "", zoomed: bool = False) -> Response:
        ref = curation.clip(clip_id).audio
        data = waveform_of_dat(cache.waveform(ref, _columns(zoomed))).json()
        return Response(data, media_type="application/json", headers=_caching(ref, v))

    @router.get("/clips/{clip_id}/spectrogram.png")
    def spectrogram(clip_id: str, v: str = "") -> Response:
        ref = curation.clip(clip_id).audio
        return Response(cache.spectrogram(ref), media_type="image/png", headers=_caching(ref, v))

    @router.get("/clips/{clip_id}/stems/{part}.flac")
    def stem(clip_id: str, part: int, v: str = "") -> Response:
        row = curation.clip(clip_id)
        found = next((stem for stem in stems_of(curation.store, row) if stem.sound.part == part), None)
        if found is None:
            raise NotFound(f"the song of this clip has no stem {part}", reason="STEM_NOT_FOUND")
        path = cache.excerpt(found.audio, row.source.span)
        return FileResponse(path, media_type="audio/flac", headers=_caching(found.audio, v))

    @router.get("/datasets/{name}/{version}.json")
    def manifest(name: str, version: int) -> Response:
        found = datasets.find(curation.store, name, version)
        data = curation.store.blobs.read(found.entry.manifest, max_bytes=MAX_DOCUMENT_BYTES)
        return Response(data, media_type="application/json", headers=_named(f"{name}-{version}.json"))

    @router.get("/datasets/{name}/{version}.zip")
    def download(name: str, version: int) -> Response:
        found = datasets.find(curation.store, name, version)
        data = curation.store.blobs.read(found.entry.manifest, max_bytes=MAX_DOCUMENT_BYTES)
        pieces = _archive(curation.store, data, datasets.manifest_of(curation.store, found.entry), scratch)
        first = next(pieces)  # an error before it is an answer of its own
        return StreamingResponse(
            itertools.chain([first], pieces), media_type="application/zip", headers=_named(f"{name}-{version}.zip")
        )

    return router


def _columns(zoomed: bool) -> int:
    return DETAIL_COLUMNS if zoomed else OVERVIEW_COLUMNS


def _caching(ref: ArtifactRef, version: str) -> dict[str, str]:
    """An address that names the digest of what it gives may be kept; a clip gets other audio by a new render."""
    named = version and ref.sha256.startswith(version)
    return {"cache-control": IMMUTABLE if named else "no-store", "etag": f'"{ref.sha256}"'}


def _named(file_name: str) -> dict[str, str]:
    """Names of data sets are a-z, 0-9, `-`, `_`, `.`: nothing to quote."""
    return {"content-disposition": f'attachment; filename="{file_name}"'}


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


def _archive(store: Store, data: bytes, manifest: DatasetManifest, scratch: Path) -> Iterator[bytes]:
    """The ZIP, piece by piece: `manifest.json`, and per split `metadata.jsonl` and the audio, stored uncompressed.

    One clip is on disk and a megabyte in memory at a time.

    An audio file that is missing or corrupt ends the stream with the store's error: a cut download, never a silent gap.
    """
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w") as archive, tempfile.TemporaryDirectory(dir=scratch) as folder:
        archive.writestr(_entry("manifest.json", len(data)), data)
        for split in SPLITS:
            members = [row for row in manifest.rows if row.split == split]
            if not members:
                continue
            lines = datasets.audio_folder_metadata(members)
            archive.writestr(_entry(f"{split}/metadata.jsonl", len(lines)), lines)
            for row in members:
                yield outlet.take()
                path = store.blobs.fetch(row.audio, Path(folder), read_only=True)
                yield from _copied(archive, outlet, path, f"{split}/{datasets.file_name(row)}")
                path.unlink()
    yield outlet.take()


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
