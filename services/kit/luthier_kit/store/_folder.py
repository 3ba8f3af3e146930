"""Objects as files below a folder: the embedded default, safe for several processes on one machine.

A write goes to a temporary file, is synced, then appears under its name by one atomic call: `rename` for content-named
blobs, `link` (which fails where the name exists) for conditional creates. A crash leaves at worst a temporary file.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from luthier_kit.rpc import DataLoss, NotFound, Unavailable
from luthier_kit.store._objects import CHUNK_BYTES, ObjectStore, OpenSource, Stored, check_key

_TEMPORARY = ".incoming"
_ABANDONED_S = 24 * 3600.0


class FolderStore(ObjectStore):
    """One bucket = one folder below `root`."""

    def __init__(self, root: Path, bucket: str) -> None:
        self.root, self.bucket = root, bucket
        self._folder = root / check_key(bucket)

    def __repr__(self) -> str:
        return f"FolderStore({str(self._folder)!r})"

    def ensure_bucket(self, *, create: bool) -> None:
        with _file_errors(self._folder):
            if create:
                (self._folder / _TEMPORARY).mkdir(parents=True, exist_ok=True)
                self._delete_abandoned()
            self._require_bucket()

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with _file_errors(path), self._incoming() as (temporary, file):
            file.write(data)
            _sync(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return path.samefile(temporary)  # a network file system may repeat a link whose reply was lost
            _sync_folder(path.parent)
            return True

    def put(self, key: str, source: OpenSource, size_bytes: int, media_type: str) -> None:
        path = self._path(key)
        with _file_errors(path), self._incoming() as (temporary, file), source() as reader:
            left = size_bytes
            while left and (chunk := reader.read(min(CHUNK_BYTES, left))):
                file.write(chunk)
                left -= len(chunk)
            if left:
                raise DataLoss(f"{key}: the source ended {left} bytes early", reason="ARTIFACT_TRUNCATED")
            _sync(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
            _sync_folder(path.parent)

    def stat(self, key: str) -> Stored | None:
        path = self._path(key)
        with _file_errors(path):
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                self._require_bucket()
                return None
            return Stored(key, found.st_size, found.st_mtime)

    def chunks(self, key: str) -> Iterator[bytes]:
        path = self._path(key)
        with _file_errors(path):
            try:
                file = path.open("rb")
            except (FileNotFoundError, NotADirectoryError):
                self._require_bucket()
                raise NotFound(f"no object {key}", reason="OBJECT_NOT_FOUND") from None
            with file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

    def get(self, key: str, max_bytes: int) -> bytes | None:
        path = self._path(key)
        with _file_errors(path):
            try:
                with path.open("rb") as file:
                    data = file.read(max_bytes + 1)
            except (FileNotFoundError, NotADirectoryError):
                self._require_bucket()
                return None
        if len(data) > max_bytes:
            raise DataLoss(f"{key} is longer than {max_bytes} bytes", reason="OBJECT_TOO_LONG")
        return data

    def keys(self, prefix: str) -> Iterator[str]:
        below = self._folder / prefix
        with _file_errors(below):
            self._require_bucket()
            for folder, _, names in os.walk(below):
                for name in names:
                    yield (Path(folder) / name).relative_to(self._folder).as_posix()

    def stored(self, prefix: str) -> Iterator[Stored]:
        for key in self.keys(prefix):
            if key.startswith(f"{_TEMPORARY}/"):
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                found = (self._folder / key).stat()
                yield Stored(key, found.st_size, found.st_mtime)

    def children(self, prefix: str) -> list[str]:
        below = self._folder / prefix
        with _file_errors(below):
            try:
                return sorted(e.name for e in os.scandir(below) if e.is_dir() and e.name != _TEMPORARY)
            except FileNotFoundError:
                self._require_bucket()
                return []

    def move(self, key: str, to: str) -> None:
        path, target = self._path(key), self._path(to)
        with _file_errors(path), contextlib.suppress(FileNotFoundError):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            _sync_folder(path.parent)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _file_errors(path):
            path.unlink(missing_ok=True)

    def sibling(self, bucket: str) -> "FolderStore":
        return FolderStore(self.root, bucket)

    def _require_bucket(self) -> None:
        """What is absent because the whole folder is (a lost mount) is not absent: the store is down."""
        if not self._folder.is_dir():
            text, public = f"bucket folder {self._folder} does not exist", "the artifact store is not there"
            raise Unavailable(text, reason="STORE_BUCKET_MISSING", public=public)
        if self.mark:
            key, data = self.mark
            try:
                same = (self._folder / key).read_bytes() == data
            except (FileNotFoundError, NotADirectoryError):
                same = False
            if not same:
                raise self.lost(key)

    def _path(self, key: str) -> Path:
        return self._folder / check_key(key)

    @contextmanager
    def _incoming(self) -> Iterator[tuple[Path, BinaryIO]]:
        self._require_bucket()
        temporary = self._folder / _TEMPORARY / uuid.uuid4().hex
        temporary.parent.mkdir(exist_ok=True)  # never the bucket's own folder: it may be a mount that is lost
        try:
            with temporary.open("xb") as file:
                yield temporary, file
        finally:
            temporary.unlink(missing_ok=True)

    def _delete_abandoned(self) -> None:
        """Remove what crashed writers left more than a day ago."""
        for path in (self._folder / _TEMPORARY).iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """A full disk or a lost mount is a store that is down."""
    try:
        yield
    except OSError as error:
        what = error.strerror or type(error).__name__
        text, public = f"the artifact folder failed at {path}: {what}", f"the artifact store failed: {what}"
        raise Unavailable(text, reason="STORE_UNAVAILABLE", public=public) from error


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
