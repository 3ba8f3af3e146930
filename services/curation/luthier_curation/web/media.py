"""Sound and files: audio with ranges, waveforms, data sets."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response, StreamingResponse

from luthier_curation import exports
from luthier_curation.content import Json
from luthier_curation.curation import Curation
from luthier_curation.web import archive
from luthier_curation.web.audio import AudioCache

IMMUTABLE = "private, max-age=604800, immutable"
MEDIA_TYPES = {".flac": "audio/flac", ".wav": "audio/wav", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}


def routes(curation: Curation, cache: AudioCache, scratch: Path) -> APIRouter:
    """The routes of bytes."""
    router = APIRouter()

    @router.get("/clips/{clip_id}/audio")
    def audio(clip_id: str, v: str = "") -> Response:
        ref = curation.clip(clip_id).audio
        path = cache.path(ref)
        media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        return FileResponse(path, media_type=media_type, headers=_caching(ref, v))

    @router.get("/clips/{clip_id}/peaks")
    def peaks(clip_id: str, v: str = "") -> Response:
        ref = curation.clip(clip_id).audio
        return Response(cache.waveform(ref), media_type="application/json", headers=_caching(ref, v))

    @router.get("/datasets/{name}/{version}.json")
    def manifest(name: str, version: int) -> Response:
        found = exports.find(curation.store, name, version)
        data = exports.manifest_bytes(curation.store, found)
        return Response(data, media_type="application/json", headers=_named(f"{name}-{version}.json"))

    @router.get("/datasets/{name}/{version}.zip")
    def download(name: str, version: int) -> Response:
        found = exports.find(curation.store, name, version)
        data = exports.manifest_bytes(curation.store, found)
        pieces = archive.stream(curation.store, data, exports.rows(data), scratch)
        first = next(pieces)
        return StreamingResponse(
            archive.resumed(first, pieces), media_type="application/zip", headers=_named(f"{name}-{version}.zip")
        )

    return router


def _caching(ref: Json, version: str) -> dict[str, str]:
    """An address that names the digest of what it gives may be kept; a clip gets other audio by a new render."""
    named = version and ref["sha256"].startswith(version)
    return {"cache-control": IMMUTABLE if named else "no-store", "etag": f'"{ref["sha256"]}"'}


def _named(file_name: str) -> dict[str, str]:
    """Names of data sets are a-z, 0-9, `-`, `_`, `.`: nothing to quote."""
    return {"content-disposition": f'attachment; filename="{file_name}"'}
