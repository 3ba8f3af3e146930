"""Finding clips: filters, pages by key (stable while others edit), counts, names of collections, history."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED, ChangeRow, ClipRow
from luthier_kit.rpc import NotFound, page_position, page_token

MAX_ID_CHARS = 64
VERDICTS: dict[pb.Verdict, str] = {
    pb.VERDICT_UNSPECIFIED: "",
    pb.VERDICT_OPEN: OPEN,
    pb.VERDICT_ACCEPTED: ACCEPTED,
    pb.VERDICT_REJECTED: REJECTED,
}
"""The contract's verdicts as the database has them."""


def conditions(which: pb.ClipFilter, *, any_verdict: bool = False) -> list[ColumnElement[bool]]:
    """The filter in SQL: all of it must hold, what is absent or empty means any.

    Every word of `text` must be found; `%` and `_` are only characters.
    """
    equal = {
        ClipRow.collection: which.collection,
        ClipRow.verdict: "" if any_verdict else VERDICTS[which.verdict],
        ClipRow.song_fingerprint: which.song_fingerprint,
        ClipRow.subset: which.subset,
    }
    found = [column == value for column, value in equal.items() if value]
    if which.HasField("checked"):
        found.append(ClipRow.checked == which.checked)
    found += [ClipRow.search.contains(word, autoescape=True) for word in which.text.lower().split()]
    if which.instrument:
        found.append(ClipRow.instruments.contains(f"|{which.instrument.lower()}|", autoescape=True))
    if which.HasField("min_tempo_bpm"):
        found.append(ClipRow.tempo_bpm >= which.min_tempo_bpm)
    if which.HasField("max_tempo_bpm"):
        found.append(ClipRow.tempo_bpm <= which.max_tempo_bpm)
    return found


@dataclass(frozen=True)
class Page:
    """Clips in order of collection, artist, title and time; tokens are empty where there is no such page."""

    clips: Sequence[ClipRow]
    total: int
    next_token: str
    previous_token: str = ""


def position_after(sort_key: str) -> str:
    """The position, for a page's token, of what follows this key."""
    return ">" + sort_key


def page(session: Session, request: pb.ListClipsRequest, size: int) -> Page:
    """Up to `size` clips from the request's token on. InvalidRequest for a token of another list."""
    matching = conditions(request.filter)
    position = page_position(request)
    backward, key = position.startswith("<"), position[1:]
    bounds = [ClipRow.sort_key < key if backward else ClipRow.sort_key > key] if position else []
    order = ClipRow.sort_key.desc() if backward else ClipRow.sort_key
    rows = list(session.scalars(select(ClipRow).where(*matching, *bounds).order_by(order).limit(size + 1)))
    more, rows = len(rows) > size, rows[:size]
    if backward:
        rows.reverse()
    total = session.scalar(select(func.count()).select_from(ClipRow).where(*matching)) or 0
    follows, precedes = (bool(rows), more) if backward else (more, bool(position and rows))
    return Page(
        clips=rows,
        total=total,
        next_token=page_token(request, position_after(rows[-1].sort_key)) if follows else "",
        previous_token=page_token(request, "<" + rows[0].sort_key) if precedes else "",
    )


def get(session: Session, clip_id: str, *, lock: bool = False) -> ClipRow:
    """One clip, locked for writing where asked. NotFound."""
    possible = len(clip_id) <= MAX_ID_CHARS and "\x00" not in clip_id  # PostgreSQL takes no NUL
    row = session.get(ClipRow, clip_id, with_for_update=lock) if possible else None
    if row is None:
        raise NotFound(f"no clip {clip_id[:MAX_ID_CHARS]!r}", reason="CLIP_NOT_FOUND", clip_id=clip_id[:MAX_ID_CHARS])
    return row


def history(session: Session, clip_id: str) -> Sequence[ChangeRow]:
    """Every change of a clip, newest first. NotFound."""
    get(session, clip_id)
    query = select(ChangeRow).where(ChangeRow.clip_id == clip_id).order_by(ChangeRow.revision.desc())
    return session.scalars(query).all()


def collections(session: Session) -> list[str]:
    """Names of the collections, in order."""
    return list(session.scalars(select(ClipRow.collection).distinct().order_by(ClipRow.collection)))


def subsets(session: Session, collection: str) -> list[str]:
    """Names of the subsets that a collection has clips of, in order; of all collections where none is named."""
    of_collection = [ClipRow.collection == collection] if collection else []
    return list(session.scalars(select(ClipRow.subset).where(*of_collection).distinct().order_by(ClipRow.subset)))


def verdict_counts(session: Session, which: pb.ClipFilter) -> dict[str, int]:
    """How many clips have each verdict among those that match the rest of the filter."""
    matching = conditions(which, any_verdict=True)
    query = select(ClipRow.verdict, func.count()).where(*matching).group_by(ClipRow.verdict)
    return {row[0]: row[1] for row in session.execute(query)}
