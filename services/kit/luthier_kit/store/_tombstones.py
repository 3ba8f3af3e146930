"""Takedowns: bytes that may be neither read nor used as an input any more, by their digests.

A takedown is an entry of the series `tombstones/sets`, which names a packed list of digests,
`tombstones/digests/<sha256>.bin`: 32 bytes for each, ascending. Taking down all that a plugin played may mean a million
of them, which a reader then holds in 32 MB. Until there were sets, each digest was an object of its own,
`tombstones/<sha256>.json`; these are honoured, too.

Every reader refuses what was taken down within `FRESH_S` seconds of the takedown; `luthier gc` deletes the bytes later.
"""

import hashlib
import heapq
import io
import re
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, overload

from luthier.store.v1.store_pb2 import TombstoneSet
from luthier_kit.rpc import DataLoss, NotFound
from luthier_kit.store._objects import ObjectStore
from luthier_kit.store._series import Series

FRESH_S = 30.0
DIGEST_BYTES: Final = 32
MAX_SET: Final = 2_000_000
"""Digests of one set: 64 MB, which a reader fetches as one object."""
_PREFIX: Final = "tombstones/"
_SETS: Final = f"{_PREFIX}sets"
_SINGLE = re.compile(rf"{_PREFIX}([0-9a-f]{{64}})\.json")
_SET = re.compile(rf"{_SETS}/([1-9][0-9]*)\.json")


class Digests(Sequence[bytes]):
    """Digests, 32 bytes each, ascending, each once, in one piece of memory."""

    def __init__(self, packed: bytes) -> None:
        self.packed = packed

    @classmethod
    def of(cls, digests: Iterable[bytes]) -> "Digests":
        """Digests in any order."""
        return cls(b"".join(sorted(set(digests))))

    def __len__(self) -> int:
        return len(self.packed) // DIGEST_BYTES

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.packed[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, bytes):
            return False
        place = bisect_left(self, digest)
        return place < len(self) and self[place] == digest

    def __or__(self, other: "Digests") -> "Digests":
        """All of both, made without an object for each digest that would outlive its turn."""
        united, last = bytearray(), b""
        for digest in heapq.merge(self, other):
            if digest != last:
                united += digest
            last = digest
        return Digests(bytes(united))

    @property
    def sha256(self) -> str:
        """Of the packed digests, 64 hexadecimal digits."""
        return hashlib.sha256(self.packed).hexdigest()

    def is_ascending(self) -> bool:
        """Whether it is what it must be; else lookups would miss what is there."""
        whole = len(self.packed) % DIGEST_BYTES == 0
        return whole and all(one < other for one, other in zip(self, islice(self, 1, None), strict=False))


@dataclass(frozen=True)
class _Known:
    """What is known of one bucket. `sets` are of sizes that fall by half at least, so that few are searched."""

    listed_at: float = float("-inf")
    newest: int = 0
    singles: frozenset[str] = frozenset()
    sets: tuple[Digests, ...] = ()

    def names(self, sha256: str) -> bool:
        if sha256 in self.singles:
            return True
        try:
            digest = bytes.fromhex(sha256) if self.sets else b""
        except ValueError:  # inputs of actions may be names
            return False
        return any(digest in digests for digests in self.sets)


class Tombstones:
    """What was taken down, per bucket; looked for at most every `fresh_s` seconds. Threads may share it."""

    def __init__(self, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._known: dict[str, _Known] = {}

    def add(self, objects: ObjectStore, digests: Iterable[bytes], *, by: str, reason: str) -> list[int]:
        """Take down what has these digests, 32 bytes each; what was taken down before is left out.

        Returns the numbers of the sets that were written, none where all were taken down before.
        """
        known = self._refreshed(objects, fresh_s=0.0)
        fresh = Digests.of(digest for digest in digests if not known.names(digest.hex()))
        numbers = []
        for first in range(0, len(fresh), MAX_SET):
            part = Digests(fresh.packed[first * DIGEST_BYTES : (first + MAX_SET) * DIGEST_BYTES])
            source = partial(io.BytesIO, part.packed)
            objects.put(_digests_key(part.sha256), source, len(part.packed), "application/octet-stream")
            entry = TombstoneSet(taken_down_by=by, reason=reason, count=len(part), digests_sha256=part.sha256)
            entry.taken_down_at.GetCurrentTime()
            numbers.append(_series(objects).append(entry, after=known.newest))
        self._known.pop(objects.bucket, None)
        return numbers

    def newest(self, objects: ObjectStore) -> int:
        """Number of the newest set, 0 where there is none."""
        return self._refreshed(objects, fresh_s=0.0).newest

    def sets_with(self, objects: ObjectStore, digests: Digests, *, after: int, but: Collection[int] = ()) -> list[int]:
        """Numbers of the sets behind number `after` that hold any of these digests, ascending, without those of `but`.
        Each is read."""
        numbers = []
        for number in range(after + 1, self.newest(objects) + 1):
            if number not in but:
                few, many = sorted((digests, _read(objects, number)), key=len)
                if any(digest in many for digest in few):
                    numbers.append(number)
        return numbers

    def check(self, objects: ObjectStore, sha256: str) -> None:
        """Raise NotFound ARTIFACT_TAKEN_DOWN when these bytes were taken down from the bucket."""
        if self.names(objects, sha256):
            raise NotFound(f"artifact {sha256} was taken down", reason="ARTIFACT_TAKEN_DOWN")

    def names(self, objects: ObjectStore, sha256: str) -> bool:
        """Whether these bytes were taken down from the bucket.

        DataLoss TOMBSTONES_CORRUPT where a list of digests is not what its entry says: nothing is read until it is
        brought back, for it may be what was taken down.
        """
        return self._refreshed(objects, self._fresh_s).names(sha256)

    def _refreshed(self, objects: ObjectStore, fresh_s: float) -> _Known:
        """What is known, at most `fresh_s` seconds old. Sets never change: each is read once."""
        known = self._known.get(objects.bucket, _Known())
        now = time.monotonic()
        if now - known.listed_at < fresh_s:
            return known
        keys = list(objects.keys(_PREFIX))
        newest = max((int(match[1]) for match in map(_SET.fullmatch, keys) if match), default=0)
        sets = known.sets
        for number in range(known.newest + 1, newest + 1):
            sets = _with(sets, _read(objects, number))
        singles = frozenset(match[1] for match in map(_SINGLE.fullmatch, keys) if match)
        known = self._known[objects.bucket] = _Known(now, newest, singles, sets)
        return known


def _with(sets: tuple[Digests, ...], digests: Digests) -> tuple[Digests, ...]:
    """One more set: small ones are united, so that a hundred takedowns are searched as some seven."""
    while sets and len(sets[-1]) <= 2 * len(digests):
        digests, sets = sets[-1] | digests, sets[:-1]
    return (*sets, digests)


def _read(objects: ObjectStore, number: int) -> Digests:
    entry = _series(objects).entry(number)
    key = _digests_key(entry.digests_sha256) if entry else f"{_SETS}/{number}.json"
    digests = Digests((objects.get(key, MAX_SET * DIGEST_BYTES) or b"") if entry else b"")
    if not entry or digests.sha256 != entry.digests_sha256 or not digests.is_ascending():
        text, public = f"{key}, what was taken down, is missing or damaged", "what was taken down cannot be read"
        raise DataLoss(text, reason="TOMBSTONES_CORRUPT", public=public)
    return digests


def _series(objects: ObjectStore) -> Series[TombstoneSet]:
    return Series(objects, TombstoneSet, _SETS)


def _digests_key(sha256: str) -> str:
    return f"{_PREFIX}digests/{sha256}.bin"
