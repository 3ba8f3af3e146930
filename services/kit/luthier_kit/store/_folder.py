"""Objects as files below a folder: the embedded default, safe for several processes on one machine.

A write goes to a temporary file, is synced, then appears under its name by one atomic call: `rename` for content-named
blobs, `link` (which fails where the name exists) for conditional creates. A crash leaves at worst a temporary file.
A file that its writer gives up becomes the temporary file itself where it lies on the same file system, and is copied
where it does not.
"""

import contextlib
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from luthier_kit.rpc import DataLoss, NotFound, Unavailable
from luthier_kit.store._objects import CHUNK_BYTES, KeyOf, Link, Moved, ObjectStore, OpenSource, Stored, check_key

_TEMPORARY = ".incoming"
_READ_BYTES = 64 << 10  # a buffer that the allocator keeps, and that is in the cache yet when it is hashed
_ABANDONED_S = 24 * 3600.0
_STAMP = "user.luthier.stored"
_STAMP_FRESH_S = 3600.0


@dataclass(frozen=True)
class _Taken:
    """A file on its way into the store: its temporary name there, and what was read of it."""

    temporary: Path
    sha256: str
    size_bytes: int


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
            _sync_path(path.parent)
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
            _sync_path(path.parent)

    def move_in(self, files: Sequence[Path], key_of: KeyOf, media_type: str) -> list[Moved]:
        """All files are synced before the first appears under its name, and each folder once for all of them."""
        with ExitStack() as ended:
            with _file_errors(self._folder), self._incoming() as (empty, file):
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # that of the files of this process
            taken = list[_Taken]()
            for path in files:
                temporary = empty.with_name(uuid.uuid4().hex)
                ended.callback(temporary.unlink, missing_ok=True)
                taken.append(_taken(path, temporary, mode))
            keys = [key_of(path, one.sha256) for path, one in zip(files, taken, strict=True)]
            targets = [self._path(key) for key in keys]
            with _file_errors(self._folder):
                for one in taken:
                    _sync_path(one.temporary)
                for folder in {target.parent for target in targets}:
                    folder.mkdir(parents=True, exist_ok=True)
                for one, target in zip(taken, targets, strict=True):
                    one.temporary.replace(target)
                for folder in {target.parent for target in targets}:
                    _sync_path(folder)
        for path in files:
            path.unlink(missing_ok=True)
        return [Moved(key, one.sha256, one.size_bytes) for key, one in zip(keys, taken, strict=True)]

    def link(self, key: str, path: Path) -> Link | None:
        stored = self._path(key)
        try:
            if stored.is_symlink():  # an administrator's: a further name would be one of the link
                return None
            os.link(stored, path)
        except OSError:  # another file system, or somebody else's file (fs.protected_hardlinks), or it is not there
            return None
        return Link(_stamped(path))

    def stat(self, key: str) -> Stored | None:
        path = self._path(key)
        with _file_errors(path):
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                self._require_bucket()
                return None
            return Stored(key, found.st_size, found.st_mtime)

    def sizes(self, keys: Collection[str]) -> dict[str, int]:
        """A run asks for some ten objects of each song that is done: paths as strings take a third of the time."""
        found = dict[str, int]()
        with _file_errors(self._folder):
            for key in keys:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    found[key] = os.stat(f"{self._folder}/{check_key(key)}").st_size  # noqa: PTH116 - as said
            if len(found) < len(keys):
                self._require_bucket()
        return found

    def chunks(self, key: str) -> Iterator[bytes]:
        path = self._path(key)
        with _file_errors(path):
            try:
                file = path.open("rb")
            except (FileNotFoundError, NotADirectoryError):
                self._require_bucket()
                raise NotFound(f"no object {key}", reason="OBJECT_NOT_FOUND") from None
            with file:
                while chunk := file.read(_READ_BYTES):
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

    def key_set(self, prefix: str) -> set[str]:
        """As `keys`; a path as an object for each of a million names would take ten times as long."""
        below, found = self._folder / prefix, set[str]()
        cut = len(f"{self._folder}/")
        with _file_errors(below):
            self._require_bucket()
            for folder, _, names in os.walk(below):
                start = f"{folder}/"[cut:].replace("//", "/")
                found.update(f"{start}{name}" for name in names)
        return found

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
            _sync_path(path.parent)

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


def _taken(path: Path, temporary: Path, mode: int) -> _Taken:
    """A file under a temporary name: itself where it can be renamed, else its copy. `mode` is what it is to have."""
    with path.open("rb", buffering=0) as source, _file_errors(temporary.parent):
        digest, size_bytes = hashlib.sha256(), 0
        copy = None if _renamed(path, source, temporary, mode) else temporary.open("xb")
        with copy or contextlib.nullcontext():
            while chunk := source.read(_READ_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
                if copy:
                    copy.write(chunk)
        _stamp(temporary, digest.hexdigest(), size_bytes)
    return _Taken(temporary, digest.hexdigest(), size_bytes)


def _renamed(path: Path, source: FileIO, temporary: Path, mode: int) -> bool:
    """Renames an opened file where it goes no further than its file system and nobody can change it by another name."""
    found = os.fstat(source.fileno())
    if found.st_nlink != 1 or not stat.S_ISREG(path.lstat().st_mode):
        return False
    try:
        path.rename(temporary)
    except OSError:  # another file system, or a folder that is not ours
        return False
    if stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(source.fileno(), mode)
    return True


def _stamp(path: Path, sha256: str, size_bytes: int) -> None:
    """Note in a file's extended attributes that its bytes, as they are now, were read and have this digest.

    Its time of change becomes one of the clock's nanoseconds. A later write sets it to a tick of the kernel's, so that
    the note does not hold any more, however soon it comes.
    """
    now_ns = time.time_ns()
    os.utime(path, ns=(now_ns, now_ns))
    with contextlib.suppress(OSError):  # a file system without them: readers read the bytes
        os.setxattr(path, _STAMP, f"{sha256} {size_bytes} {now_ns}".encode())


def _stamped(path: Path) -> str:
    """The digest that `_stamp` noted, empty when the file was changed since or the note is old.

    While it is young, reading would hash what the kernel holds in memory since it was written. The disk is trusted for
    no longer.
    """
    try:
        sha256, size_bytes, at_ns = os.getxattr(path, _STAMP).decode().split()
        found = path.stat()
    except (OSError, ValueError):
        return ""
    same = (found.st_size, found.st_mtime_ns) == (int(size_bytes), int(at_ns))
    return sha256 if same and 0 <= time.time_ns() - int(at_ns) < _STAMP_FRESH_S * 1e9 else ""


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_path(path: Path) -> None:
    """Syncs a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
