"""Clips by the similarity of their sound: to a text, or to another clip.

All that match the filter are ranked by their vectors, exactly. What is found is checked against the database in the
same transaction, so a clip that was revised, removed or judged meanwhile is there only as it is now.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import listing, vectors
from luthier_curation.embedding import Vector
from luthier_curation.tables import ClipRow, ClipVectorRow
from luthier_curation.vectors import Ranking, VectorSets
from luthier_kit.rpc import FailedPrecondition

MAX_FOUND: Final = 100
AT_ONCE: Final = 64
"""Clips of the ranking that are looked at first; eight times as many each time that too few of them match."""
NARROW: Final = 5000
"""Clips that a filter leaves, up to which they are ranked alone."""
MOST_AT_ONCE: Final = 10_000  # ids in one question; SQLite takes 32,766 values


@dataclass(frozen=True)
class Similar:
    """A clip, and the cosine of its vector and the query's, -1 to 1."""

    clip: ClipRow
    similarity: float


@dataclass(frozen=True)
class Found:
    """Clips, the most similar first, by the weights with this digest."""

    clips: list[Similar]
    weights_sha256: str


def by_clip(session: Session, sets: VectorSets, which: pb.ClipFilter, clip_id: str, size: int) -> Found:
    """Clips that sound like this one, without it. NotFound; FailedPrecondition NO_VECTOR where it has no vector."""
    listing.get(session, clip_id)
    known = vectors.vector_of(session, clip_id)
    if known is None:
        text = f"clip {clip_id} has no vector: it was not embedded since its audio is this, or is silent"
        raise FailedPrecondition(text, reason="NO_VECTOR", clip_id=clip_id)
    return search(session, sets, which, known[0], known[1], size, without=clip_id)


def search(
    session: Session, sets: VectorSets, which: pb.ClipFilter, query: Vector, weights_sha256: str, size: int, *,
    without: str = "",
) -> Found:  # fmt: skip
    """The clips that match and whose vectors by these weights are nearest to a query (dimensions,) of length 1."""
    found = sets.of(weights_sha256)
    with found.lock:
        found.refresh(session)
        ranking = found.compare(query, which.collection, without)
    ids = _best(session, which, ranking, weights_sha256, size)
    rows = {row.clip_id: row for row in session.scalars(select(ClipRow).where(ClipRow.clip_id.in_(ids)))}
    return Found([Similar(rows[name], ranking.score(name)) for name in ids], weights_sha256)


def _best(session: Session, which: pb.ClipFilter, ranking: Ranking, weights_sha256: str, size: int) -> list[str]:
    """Where many clips match they are soon found down the ranking; where few do, those are asked for and ranked."""
    first = max(AT_ONCE, 2 * size)
    found, behind, count = list[str](), 0, first
    while True:
        best = ranking.best(count)
        found += _matching(session, which, ranking, weights_sha256, best[behind:])
        if len(found) >= size or len(best) < count:
            return found[:size]
        if behind == first:
            query = select(ClipRow.clip_id).where(*listing.conditions(session, which)).limit(NARROW + 1)
            few = list(session.scalars(query))
            if len(few) <= NARROW:
                return _matching(session, which, ranking, weights_sha256, ranking.order(few))[:size]
        behind, count = count, 8 * count


def _matching(
    session: Session, which: pb.ClipFilter, ranking: Ranking, weights_sha256: str, ids: Sequence[str]
) -> list[str]:
    """Those of these clips that match and still have the vector that was compared, in their order."""
    there = set[str]()
    conditions = [*listing.conditions(session, which), ClipVectorRow.weights_sha256 == weights_sha256]
    query = select(ClipRow.clip_id, ClipVectorRow.change).join(ClipVectorRow, ClipVectorRow.clip_id == ClipRow.clip_id)
    for first in range(0, len(ids), MOST_AT_ONCE):
        some = ClipRow.clip_id.in_(ids[first : first + MOST_AT_ONCE])
        for clip_id, change in session.execute(query.where(some, *conditions)):
            if change == ranking.change(clip_id):
                there.add(clip_id)
    return [name for name in ids if name in there]


def count_without(session: Session, which: pb.ClipFilter, weights_sha256: str) -> int:
    """How many clips that match have no vector by these weights."""
    query = select(func.count()).select_from(ClipRow).where(*without_vector(session, which, weights_sha256))
    return session.scalar(query) or 0


def without_vector(session: Session, which: pb.ClipFilter, weights_sha256: str) -> list[ColumnElement[bool]]:
    """The filter, and that a clip has no vector by these weights, in SQL."""
    has = select(ClipVectorRow.clip_id).where(
        ClipVectorRow.clip_id == ClipRow.clip_id, ClipVectorRow.weights_sha256 == weights_sha256
    )
    return [*listing.conditions(session, which), ~has.exists()]
