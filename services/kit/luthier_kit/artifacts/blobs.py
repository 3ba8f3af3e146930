"""Blobs: immutable bytes named by their SHA-256, verified on the way in and on the way out, never whole in memory."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts.objects import CHUNK_BYTES, ObjectStore
from luthier_kit.artifacts.refs import blob_key, check_ref, check_sha256
from luthier_kit.artifacts.tombstones import Tombstones
from luthier_kit.artifacts.verified import VerifiedReader
from luthier_kit.errors import DataLoss, FailedPrecondition, InvalidRequest, NotFound

log = logging.getLogger(__name__)
_READS = 2  # a wrong digest must be seen twice: the first may be the wire


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Blobs:
    """Reads from the allowed buckets, writes to its own."""

    def __init__(self, objects: ObjectStore, allowed_buckets: frozenset[str] = frozenset()) -> None:
        self.objects, self.bucket = objects, objects.bucket
        self._allowed = allowed_buckets | {objects.bucket}
        self._siblings: dict[str, ObjectStore] = {}
        self._tombstones = Tombstones()

    def put_file(self, kind: str, path: Path, media_type: str = "application/octet-stream") -> ArtifactRef:
        """Store a file under its digest; the key's extension is the file's last suffix (`bin` when it has none).

        Raises DataLoss ARTIFACT_SOURCE_CHANGED when the file changes meanwhile; nothing is stored then.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.seek(0, os.SEEK_END)
        ext = path.suffix.lstrip(".").lower() or "bin"
        ref = self._named(blob_key(kind, sha256, ext), sha256, size_bytes, media_type)
        return self._put(lambda: path.open("rb"), ref)

    def put_bytes(self, kind: str, data: bytes, ext: str, media_type: str = "application/octet-stream") -> ArtifactRef:
        """Store bytes under their digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        ref = self._named(blob_key(kind, sha256, ext), sha256, len(data), media_type)
        return self._put(lambda: io.BytesIO(data), ref)

    def fetch(self, ref: ArtifactRef, directory: Path) -> Path:
        """Copy a blob to `<directory>/<sha256>.<ext>`, verified; a verified copy that is there already is kept.

        Raises NotFound, DataLoss when the stored bytes are corrupt, and what `check_ref` refuses.
        """
        objects = self._checked(ref)
        path = directory / Path(ref.key).name
        if path.is_file() and _file_sha256(path) == ref.sha256:
            return path
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
            temporary = Path(file.name)
        try:
            self._download(objects, ref, lambda: temporary.open("wb"))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def read(self, ref: ArtifactRef, max_bytes: int = 64 << 20) -> bytes:
        """A blob's verified bytes; InvalidRequest ARTIFACT_TOO_LARGE beyond `max_bytes`, before they are read."""
        objects = self._checked(ref)
        size_bytes = objects.size_bytes(ref.key)
        if size_bytes is None:
            raise _missing(ref)
        if size_bytes > max_bytes:
            text = f"must be at most {max_bytes} bytes long, {ref.key} has {size_bytes}"
            raise InvalidRequest(f"artifact {text}", reason="ARTIFACT_TOO_LARGE", violations=[("size_bytes", text)])
        buffers: list[io.BytesIO] = []

        def fresh() -> BinaryIO:
            buffers.append(_KeptOpen())
            return buffers[-1]

        self._download(objects, ref, fresh)
        return buffers[-1].getvalue()

    def exists(self, ref: ArtifactRef) -> bool:
        """True when the blob is stored with the size that the reference states (0 = any); its bytes are not read."""
        size_bytes = self._checked(ref).size_bytes(ref.key)
        return size_bytes is not None and ref.size_bytes in {0, size_bytes}

    def take_down(self, sha256: str, *, by: str, reason: str) -> None:
        """Refuse these bytes to every reader from now on (elsewhere within half a minute), as NotFound."""
        check_sha256(sha256)
        self._tombstones.raise_over(self.objects, sha256, by=by, reason=reason)

    def _put(self, source: Callable[[], BinaryIO], ref: ArtifactRef) -> ArtifactRef:
        def verified() -> BinaryIO:
            return io.BufferedReader(VerifiedReader(source(), ref.sha256, ref.size_bytes), CHUNK_BYTES)

        self.objects.put(ref.key, verified, ref.size_bytes, ref.media_type)
        return ref

    def _named(self, key: str, sha256: str, size_bytes: int, media_type: str) -> ArtifactRef:
        return ArtifactRef(bucket=self.bucket, key=key, sha256=sha256, size_bytes=size_bytes, media_type=media_type)

    def _checked(self, ref: ArtifactRef) -> ObjectStore:
        check_ref(ref, self.bucket, self._allowed)
        objects = self.objects
        if ref.bucket and ref.bucket != self.bucket:
            objects = self._siblings.get(ref.bucket) or self._siblings.setdefault(
                ref.bucket, objects.sibling(ref.bucket)
            )
        self._tombstones.check(objects, ref.sha256)
        return objects

    def _download(self, objects: ObjectStore, ref: ArtifactRef, sink: Callable[[], BinaryIO]) -> None:
        for _ in range(_READS):
            with sink() as file:
                sha256, size_bytes = _copy(objects, ref, file)
            if sha256 == ref.sha256:
                break
            log.warning("artifact %s: read bytes with sha256 %s", ref.key, sha256)
        else:
            self._set_aside(objects, ref)
            text = f"the stored bytes of {ref.key} do not have the digest that names them"
            raise DataLoss(text, reason="ARTIFACT_CORRUPT")
        if ref.size_bytes and ref.size_bytes != size_bytes:
            text = f"the reference says {ref.size_bytes} bytes, {ref.key} has {size_bytes}"
            raise FailedPrecondition(text, reason="ARTIFACT_SIZE_MISMATCH")

    def _set_aside(self, objects: ObjectStore, ref: ArtifactRef) -> None:
        """Quarantine a corrupt blob of our own: the records that name it become void and are computed again."""
        if objects is self.objects:
            log.error("artifact %s is corrupt; moved to quarantine/%s", ref.key, ref.key)
            objects.move(ref.key, f"quarantine/{ref.key}")


class _KeptOpen(io.BytesIO):
    """A buffer that outlives its `with` block."""

    def close(self) -> None:
        pass


def _copy(objects: ObjectStore, ref: ArtifactRef, file: _Sink) -> tuple[str, int]:
    digest, size_bytes = hashlib.sha256(), 0
    try:
        for chunk in objects.chunks(ref.key):
            digest.update(chunk)
            size_bytes += len(chunk)
            file.write(chunk)
    except NotFound:
        raise _missing(ref) from None
    return digest.hexdigest(), size_bytes


def _missing(ref: ArtifactRef) -> NotFound:
    return NotFound(f"no artifact {ref.key} in bucket {ref.bucket or 'of this service'}", reason="ARTIFACT_NOT_FOUND")


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
