"""What Luthier asks of object storage, and nothing more: one bucket of immutable objects.

Two implementations answer it: a folder (the embedded default) and any S3. One contract suite runs against both.
"""

import functools
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from luthier_kit.rpc import Unavailable

CHUNK_BYTES = 1 << 20
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
MAX_KEY_CHARS = 512
MAX_MARK_BYTES = 1024

OpenSource = Callable[[], BinaryIO]
"""Opens the bytes of an upload from their beginning; called once per attempt."""

KeyOf = Callable[[Path, str], str]
"""The key under which a file is stored, by its path and SHA-256."""


def check_key(key: str) -> str:
    """Return `key` when it is made of plain segments; ValueError otherwise (a bug of ours: refs are checked before)."""
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ValueError(f"not an object key: {key[:80]!r}")
    return key


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


@dataclass(frozen=True)
class Stored:
    """An object as a listing shows it: `written_at` in seconds since the epoch, by the store's clock."""

    key: str
    size_bytes: int
    written_at: float


@dataclass(frozen=True)
class Link:
    """A further name of an object's file. `sha256` is what the store knows its bytes to have; when it is empty, they
    must be read."""

    sha256: str


@dataclass(frozen=True)
class Moved:
    """A file that became an object."""

    key: str
    sha256: str
    size_bytes: int


class ObjectStore(ABC):
    """One bucket. Every method may raise Unavailable; a missing object is None or False, never an exception."""

    bucket: str
    mark: tuple[str, bytes] | None = None
    """Key and bytes of the object that tells this store from another one; None where none is required."""

    @abstractmethod
    def ensure_bucket(self, *, create: bool) -> None:
        """Check that the bucket is there. A missing one is created with `create`, else Unavailable is raised."""

    def require(self, key: str) -> None:
        """From now on a store whose object `key` is gone or differs is down (STORE_MARK_MISSING): it is another one,
        in the place of the one that was proven. What is absent there is not absent, and nothing is written to it."""
        self.mark = None
        if (data := self.get(key, MAX_MARK_BYTES)) is None:
            raise self.lost(key)
        self.mark = (key, data)

    def lost(self, key: str) -> Unavailable:
        """The error of a store that is not the one that it was."""
        text = f"{self!r} is not the store that it was: its {key} is missing or another one. Bring the lost one back"
        return Unavailable(text, reason="STORE_MARK_MISSING", public="the artifact store is not the one that it was")

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write a small object only if the key is free; True when the stored object is this writer's.

        `data` must contain something only this writer knows (a commit id): after a lost reply the object is read
        back, and equal bytes mean that the earlier attempt was stored.
        """

    @abstractmethod
    def put(self, key: str, source: OpenSource, size_bytes: int, media_type: str) -> None:
        """Write `size_bytes` bytes under `key`: all of them become visible, or none."""

    def move_in(self, files: Sequence[Path], key_of: KeyOf, media_type: str) -> list[Moved]:
        """Make objects of files that nobody else writes to, each read once for its digest. They are gone afterwards."""
        moved = []
        for path in files:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size_bytes = file.tell()
            key = key_of(path, sha256)
            self.put(key, functools.partial(_opened, path), size_bytes, media_type)
            path.unlink()
            moved.append(Moved(key, sha256, size_bytes))
        return moved

    def link(self, key: str, path: Path) -> Link | None:
        """Make `path`, which is free, a further name of the object's own file, where the store has files and can do so
        from there; else None. Whoever writes to it changes the object."""
        return None

    @abstractmethod
    def stat(self, key: str) -> Stored | None:
        """The object as a listing would show it now, None when there is none."""

    def size_bytes(self, key: str) -> int | None:
        """Length of the object, None when there is none."""
        found = self.stat(key)
        return found.size_bytes if found else None

    def sizes(self, keys: Collection[str]) -> dict[str, int]:
        """Length of each object of `keys` that is there, in bytes, as `size_bytes` says it."""
        found = ((key, self.size_bytes(key)) for key in keys)
        return {key: size_bytes for key, size_bytes in found if size_bytes is not None}

    @abstractmethod
    def chunks(self, key: str) -> Iterator[bytes]:
        """The object's bytes in pieces of at most CHUNK_BYTES; raises NotFound when there is none."""

    @abstractmethod
    def get(self, key: str, max_bytes: int) -> bytes | None:
        """A small object whole, None when there is none; DataLoss when it is longer than `max_bytes`."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """Keys of all objects below `prefix` (which ends in `/`), in no promised order."""

    def key_set(self, prefix: str) -> set[str]:
        """What `keys` names, for folders of a million: asked for in parts at once where that is sooner."""
        return set(self.keys(prefix))

    @abstractmethod
    def stored(self, prefix: str) -> Iterator[Stored]:
        """What `keys` names, each with its size and when it was written; in no particular order."""

    @abstractmethod
    def children(self, prefix: str) -> list[str]:
        """Sorted names directly below `prefix` (which ends in `/` or is empty) that have objects below them."""

    @abstractmethod
    def move(self, key: str, to: str) -> None:
        """Move an object out of the way; a missing one is left missing."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; a missing one is left missing."""

    @abstractmethod
    def sibling(self, bucket: str) -> "ObjectStore":
        """The same storage, another bucket."""
