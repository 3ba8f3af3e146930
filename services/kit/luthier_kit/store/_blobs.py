"""Blobs: immutable bytes named by their SHA-256, `<kind>/<sha256>.<ext>`.

Digests are verified when blobs are written and read; files are streamed, never whole in memory. Who reads a folder's
own file within an hour after it was stored is content with the folder's note that it is unchanged since. References are
checked before storage is asked.
"""

import hashlib
import io
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc import (
    REF_INVALID,
    SHA256,
    SHA256_RULE,
    DataLoss,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Unavailable,
    is_blob_key,
    ref_violations,
)
from luthier_kit.store._objects import CHUNK_BYTES, ObjectStore
from luthier_kit.store._tombstones import Tombstones

log = logging.getLogger(__name__)
_READS = 2  # a wrong digest must be seen twice: the first may be the wire


def blob_key(kind: str, sha256: str, ext: str) -> str:
    """Key of a blob; ValueError for a kind or extension that the grammar has no room for."""
    key = f"{kind}/{sha256}.{ext}"
    if not is_blob_key(key):
        raise ValueError(f"not a blob key: {key[:200]!r}")
    return key


def check_sha256(sha256: str) -> None:
    """InvalidRequest unless this is a digest as we write them."""
    if not SHA256.fullmatch(sha256):
        raise InvalidRequest(reason="DIGEST_INVALID", violations=[("sha256", SHA256_RULE)])


def check_ref(ref: ArtifactRef, bucket: str, allowed: frozenset[str]) -> None:
    """Refuse a reference that is malformed, contradicts itself or points outside the allowed buckets.

    Empty `ref.bucket` means `bucket`, the service's own. Raises InvalidRequest, PermissionDenied, or
    FailedPrecondition ARTIFACT_DIGEST_MISMATCH when the caller's digest is not the one in the key.
    """
    if violations := ref_violations(ref):
        text = "; ".join(f"{field} {what}" for field, what in violations)
        raise InvalidRequest(f"artifact reference: {text}", reason=REF_INVALID, violations=violations)
    if (ref.bucket or bucket) != bucket and ref.bucket not in allowed:
        text = f"bucket {ref.bucket[:80]!r} is not on this service's allow list"
        raise PermissionDenied(text, reason="BUCKET_NOT_ALLOWED")
    named = _sha256_of(ref.key)
    if named != ref.sha256:
        text = f"the reference says sha256 {ref.sha256}, its key says {named}"
        raise FailedPrecondition(text, reason="ARTIFACT_DIGEST_MISMATCH")


def _sha256_of(key: str) -> str:
    """The digest in a blob's key."""
    return key.rsplit("/", 1)[1].split(".", 1)[0]


class VerifiedReader(io.RawIOBase):
    """Wraps the source of an upload: an upload of other bytes than announced fails before it is complete.

    Reading raises DataLoss ARTIFACT_SOURCE_CHANGED when the source is shorter, longer or has another SHA-256.
    """

    def __init__(self, source: BinaryIO, sha256: str, size_bytes: int) -> None:
        self._source, self._sha256, self._left = source, sha256, size_bytes
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._source.read(min(len(buffer), self._left))
        self._digest.update(data)
        self._left -= len(data)
        changed = not data and self._left
        if not self._left:
            changed = self._digest.hexdigest() != self._sha256 or self._source.read(1) != b""
        if changed:
            text = f"the source of {self._sha256} changed while it was stored"
            raise DataLoss(text, reason="ARTIFACT_SOURCE_CHANGED")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._source.close()
        super().close()


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Blobs:
    """Reads from the allowed buckets, writes to its own."""

    def __init__(self, objects: ObjectStore, allowed_buckets: frozenset[str], tombstones: Tombstones) -> None:
        self.objects, self.bucket = objects, objects.bucket
        self._allowed = allowed_buckets | {objects.bucket}
        self._siblings: dict[str, ObjectStore] = {}
        self._tombstones = tombstones

    def put_file(self, kind: str, path: Path, media_type: str = "application/octet-stream") -> ArtifactRef:
        """Store a file under its digest; the key's extension is the file's last suffix (`bin` when it has none).

        Raises DataLoss ARTIFACT_SOURCE_CHANGED when the file changes meanwhile; nothing is stored then.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.seek(0, os.SEEK_END)
        ref = self._named(blob_key(kind, sha256, _extension(path)), sha256, size_bytes, media_type)
        return self._put(lambda: path.open("rb"), ref)

    def put_bytes(self, kind: str, data: bytes, ext: str, media_type: str = "application/octet-stream") -> ArtifactRef:
        """Store bytes under their digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        ref = self._named(blob_key(kind, sha256, ext), sha256, len(data), media_type)
        self.objects.put(ref.key, lambda: io.BytesIO(data), ref.size_bytes, media_type)
        return ref

    def move_files(
        self, kind: str, paths: Sequence[Path], media_type: str = "application/octet-stream"
    ) -> list[ArtifactRef]:
        """Store files that the caller has written and gives up, as `put_file` names them. They are gone afterwards.

        Cheaper than `put_file`: nobody else changes them, so that they are read once; a folder takes the file itself
        where it lies on its file system, and syncs folders once for all of them. When it fails, some may be stored, and
        those may be gone.
        """
        moved = self.objects.move_in(paths, lambda path, sha256: blob_key(kind, sha256, _extension(path)), media_type)
        return [self._named(one.key, one.sha256, one.size_bytes, media_type) for one in moved]

    def move_file(self, kind: str, path: Path, media_type: str = "application/octet-stream") -> ArtifactRef:
        """Store a file that the caller has written and gives up, as `move_files` does."""
        return self.move_files(kind, [path], media_type)[0]

    def fetch(
        self, ref: ArtifactRef, directory: Path, *, max_bytes: int | None = None, read_only: bool = False
    ) -> Path:
        """Copy a blob to `<directory>/<sha256>.<ext>`, verified; a verified copy that is there already is kept.

        `read_only`: the caller writes neither to the file nor to its mode; then it may be the store's own, under a
        further name, and is not copied. Raises NotFound, DataLoss when the stored bytes are corrupt, InvalidRequest
        ARTIFACT_TOO_LARGE beyond `max_bytes` before they are copied, and what `check_ref` refuses.
        """
        objects = self._checked(ref)
        if max_bytes is not None:
            _refuse_larger(objects, ref, max_bytes)
        path = directory / Path(ref.key).name
        if path.is_file() and _file_sha256(path) == ref.sha256:
            return path
        directory.mkdir(parents=True, exist_ok=True)
        if read_only and _linked(objects, ref, path):
            return path
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
        _refuse_larger(objects, ref, max_bytes)
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

    def stored(self, sizes: Mapping[str, int]) -> frozenset[str]:
        """Those of these keys whose blobs are in the bucket with that size in bytes (0 = any), and not taken down."""
        usable = [
            key for key in sizes if is_blob_key(key) and not self._tombstones.names(self.objects, _sha256_of(key))
        ]
        found = self.objects.sizes(usable)
        return frozenset(key for key, size_bytes in found.items() if sizes[key] in {0, size_bytes})

    def take_down(self, sha256: str, *, by: str, reason: str) -> None:
        """Refuse these bytes to every reader from now on (elsewhere within half a minute), as NotFound."""
        check_sha256(sha256)
        self._tombstones.add(self.objects, [bytes.fromhex(sha256)], by=by, reason=reason)

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
        """Quarantine a corrupt blob of our own: the records that name it become void and are computed again.

        It stays where this process may not delete it, such as the checkpoint of a model: nothing makes that again.
        """
        if objects is not self.objects:
            return
        try:
            objects.move(ref.key, f"quarantine/{ref.key}")
        except Unavailable as error:
            log.error("artifact %s is corrupt, and cannot be moved to quarantine: %s", ref.key, error)
        else:
            log.error("artifact %s is corrupt; moved to quarantine/%s", ref.key, ref.key)


class _KeptOpen(io.BytesIO):
    """A buffer that outlives its `with` block."""

    def close(self) -> None:
        pass


def _extension(path: Path) -> str:
    return path.suffix.lstrip(".").lower() or "bin"


def _linked(objects: ObjectStore, ref: ArtifactRef, path: Path) -> bool:
    """Whether `path` is now a further name of the stored file, which has the right bytes."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    if not (link := objects.link(ref.key, temporary)):
        return False
    try:
        right = ref.size_bytes in {0, temporary.stat().st_size} and ref.sha256 == (
            link.sha256 or _file_sha256(temporary)
        )
        if right:
            temporary.replace(path)
        return right
    finally:
        temporary.unlink(missing_ok=True)


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


def _refuse_larger(objects: ObjectStore, ref: ArtifactRef, max_bytes: int) -> None:
    """NotFound when the blob is not there, InvalidRequest ARTIFACT_TOO_LARGE when it is larger, whatever `ref` says."""
    size_bytes = objects.size_bytes(ref.key)
    if size_bytes is None:
        raise _missing(ref)
    if size_bytes > max_bytes:
        text = f"must be at most {max_bytes} bytes long, {ref.key} has {size_bytes}"
        raise InvalidRequest(f"artifact {text}", reason="ARTIFACT_TOO_LARGE", violations=[("size_bytes", text)])


def _missing(ref: ArtifactRef) -> NotFound:
    where = f"bucket {ref.bucket}" if ref.bucket else "the service's bucket"
    return NotFound(f"no artifact {ref.key} in {where}", reason="ARTIFACT_NOT_FOUND")


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
