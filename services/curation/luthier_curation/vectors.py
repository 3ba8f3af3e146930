"""Vectors of clips in the database, and copies of them in memory, which are compared.

A clip has at most one vector: of the audio that it has now, by the newest weights that it was embedded with. Vectors of
the same weights are a set; each that is written gets the next number of its set, so a copy reads what is new and
nothing else. A vector goes with its clip, and when the clip's audio changes.

Every vector of a set is compared with the query. Of 100,000 with 512 numbers that takes some 20 ms; an approximate
index answers sooner, takes minutes to build, and misses clips (services/curation/README.md has the figures).
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from luthier_curation.embedding import Vector
from luthier_curation.tables import ClipRow, ClipVectorRow, VectorSetRow

READ_AT_ONCE: Final = 4000
SETS_KEPT: Final = 2
"""Sets in memory: while clips are embedded with other weights, both are asked for."""
FLOAT32: Final = np.dtype("<f4")


@dataclass(frozen=True)
class Embedded:
    """A clip's vector, of the audio with this digest."""

    clip_id: str
    audio_sha256: str
    vector: Vector


def keep(session: Session, embedder: str, weights_sha256: str, found: Sequence[Embedded]) -> int:
    """Write vectors of clips, but not of those that have other audio by now, or are gone; how many were written."""
    locked = select(ClipRow.clip_id, ClipRow.audio).where(ClipRow.clip_id.in_([one.clip_id for one in found]))
    audio = {
        row.clip_id: row.audio.sha256 for row in session.execute(locked.order_by(ClipRow.clip_id).with_for_update())
    }
    current = [one for one in found if audio.get(one.clip_id) == one.audio_sha256]
    if not current:
        return 0
    whole = session.get(VectorSetRow, weights_sha256, with_for_update=True)
    if whole is None:
        whole = VectorSetRow(weights_sha256=weights_sha256, embedder=embedder, changes=0)
        session.add(whole)
        session.flush()
    for one in current:
        whole.changes += 1
        session.merge(
            ClipVectorRow(
                clip_id=one.clip_id, weights_sha256=weights_sha256, change=whole.changes,
                vector=one.vector.astype(FLOAT32).tobytes(),
            )
        )  # fmt: skip
    return len(current)


def forget(session: Session, clip_id: str) -> None:
    """The clip has no vector any more: its audio is another one."""
    session.execute(delete(ClipVectorRow).where(ClipVectorRow.clip_id == clip_id))


def vector_of(session: Session, clip_id: str) -> tuple[Vector, str] | None:
    """A clip's vector, and the digest of its weights."""
    row = session.get(ClipVectorRow, clip_id)
    return (np.frombuffer(row.vector, FLOAT32), row.weights_sha256) if row else None


class Vectors:
    """A set of vectors in memory, as far as it was read. One thread at a time may read or compare."""

    def __init__(self, weights_sha256: str) -> None:
        self.weights_sha256 = weights_sha256
        self.lock = threading.Lock()
        self._known = 0
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        self._changes = np.zeros(0, np.int64)
        self._collections = np.zeros(0, np.int32)
        self._codes: dict[str, int] = {}
        self._matrix = np.zeros((0, 0), np.float32)  # (room, dimensions)

    def refresh(self, session: Session) -> None:
        """Read what is new in the database."""
        last = (
            session.scalar(select(VectorSetRow.changes).where(VectorSetRow.weights_sha256 == self.weights_sha256)) or 0
        )
        if last == self._known:
            return
        mine = (ClipVectorRow.weights_sha256 == self.weights_sha256, ClipVectorRow.change <= last)
        new = session.scalar(
            select(func.count()).select_from(ClipVectorRow).where(*mine, ClipVectorRow.change > self._known)
        )
        self._make_room(int(new or 0))
        columns = (ClipVectorRow.clip_id, ClipVectorRow.change, ClipVectorRow.vector, ClipRow.collection)
        query = select(*columns).join(ClipRow, ClipRow.clip_id == ClipVectorRow.clip_id)
        while rows := session.execute(
            query.where(*mine, ClipVectorRow.change > self._known).order_by(ClipVectorRow.change).limit(READ_AT_ONCE)
        ).all():
            for clip_id, change, data, collection in rows:
                self._put(clip_id, change, np.frombuffer(data, FLOAT32), collection)
            self._known = rows[-1].change
        self._known = last

    def _make_room(self, more: int) -> None:
        """For so many vectors more, and a quarter beyond where it grew before."""
        wanted = len(self._ids) + more
        if wanted <= len(self._matrix):
            return
        room = wanted if not len(self._matrix) else max(wanted, len(self._matrix) * 5 // 4)
        self._changes = np.concatenate([self._changes, np.zeros(room - len(self._changes), np.int64)])
        self._collections = np.concatenate([self._collections, np.zeros(room - len(self._collections), np.int32)])
        self._matrix = np.concatenate(
            [self._matrix, np.zeros((room - len(self._matrix), self._matrix.shape[1]), np.float32)]
        )

    def _put(self, clip_id: str, change: int, vector: Vector, collection: str) -> None:
        if not self._matrix.shape[1]:
            self._matrix = np.zeros((len(self._matrix), len(vector)), np.float32)
        place = self._places.get(clip_id)
        if place is None:
            self._make_room(1)
            place = self._places[clip_id] = len(self._ids)
            self._ids.append(clip_id)
        self._matrix[place] = vector
        self._changes[place] = change
        self._collections[place] = self._codes.setdefault(collection, len(self._codes))

    def compare(self, query: Vector, collection: str, without: str) -> "Ranking":
        """How near each clip is to a query (dimensions,) of length 1; of one collection where it is named, and without
        a clip."""
        count = len(self._ids)
        if not count:
            return Ranking([], np.zeros(0, np.int64), {}, np.zeros(0, np.float32))
        scores = self._matrix[:count] @ query.astype(np.float32)  # (count,): cosines, as all have length 1
        if collection:
            scores[self._collections[:count] != self._codes.get(collection, -1)] = -np.inf
        if without in self._places:
            scores[self._places[without]] = -np.inf
        return Ranking(self._ids, self._changes[:count].copy(), self._places, scores)


@dataclass(frozen=True)
class Ranking:
    """Clips of a set with their cosines (clips,), -inf for those that are left out, and the numbers (clips,) that their
    vectors had in the set. `ids` and `places` may have grown since; a clip's place stays."""

    ids: list[str]
    changes: NDArray[np.int64]
    places: dict[str, int]
    scores: NDArray[np.float32]

    def best(self, count: int) -> list[str]:
        """The `count` clips of the highest cosines, the highest first; equal ones by id."""
        some = min(count, len(self.scores))
        if not some:
            return []
        lowest = np.partition(self.scores, len(self.scores) - some)[len(self.scores) - some]
        found = np.flatnonzero((self.scores >= lowest) & np.isfinite(self.scores))
        return self._ordered(found)[:count]

    def order(self, ids: Sequence[str]) -> list[str]:
        """These clips, as far as they are in the set and not left out, in the same order."""
        known = [self.places.get(name, -1) for name in ids]
        places = np.array([place for place in known if 0 <= place < len(self.scores)], np.int64)
        return self._ordered(places[np.isfinite(self.scores[places])])

    def change(self, clip_id: str) -> int:
        """The number that the clip's vector had in the set."""
        return int(self.changes[self.places[clip_id]])

    def score(self, clip_id: str) -> float:
        """A clip's cosine, -1 to 1."""
        return min(1.0, max(-1.0, float(self.scores[self.places[clip_id]])))

    def _ordered(self, places: NDArray[np.int64]) -> list[str]:
        names = [(-float(self.scores[place]), self.ids[place]) for place in places]
        return [name for _, name in sorted(names)]


class VectorSets:
    """The sets that were asked for last, in memory. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sets: OrderedDict[str, Vectors] = OrderedDict()

    def of(self, weights_sha256: str) -> Vectors:
        """The set of these weights, which its lock guards."""
        with self._lock:
            found = self._sets.setdefault(weights_sha256, Vectors(weights_sha256))
            self._sets.move_to_end(weights_sha256)
            while len(self._sets) > SETS_KEPT:
                self._sets.popitem(last=False)
            return found
