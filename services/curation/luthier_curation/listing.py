"""Finding clips: filters, pages by key (stable while others edit), counts, names of collections, history."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from luthier_curation.tables import ChangeRow, ClipRow
from luthier_kit.errors import InvalidRequest, NotFound


@dataclass(frozen=True)
class ClipFilter:
    """Which clips are meant; None and the empty text mean any. All of it must hold."""

    collection: str = ""
    verdict: str = ""
    checked: bool | None = None
    text: str = ""
    instrument: str = ""
    song_fingerprint: str = ""
    min_tempo_bpm: float | None = None
    max_tempo_bpm: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The filter in SQL. Every word of `text` must be found; `%` and `_` are only characters."""
        equal = {
            ClipRow.collection: self.collection,
            ClipRow.verdict: self.verdict,
            ClipRow.song_fingerprint: self.song_fingerprint,
        }
        found = [column == value for column, value in equal.items() if value]
        if self.checked is not None:
            found.append(ClipRow.checked == self.checked)
        found += [ClipRow.search.contains(word, autoescape=True) for word in self.text.lower().split()]
        if self.instrument:
            found.append(ClipRow.instruments.contains(f"|{self.instrument.lower()}|", autoescape=True))
        if self.min_tempo_bpm is not None:
            found.append(ClipRow.tempo_bpm >= self.min_tempo_bpm)
        if self.max_tempo_bpm is not None:
            found.append(ClipRow.tempo_bpm <= self.max_tempo_bpm)
        return found


@dataclass(frozen=True)
class Page:
    """Clips in order of collection, artist, title and time; tokens are empty where there is no such page."""

    clips: Sequence[ClipRow]
    total: int
    next_token: str
    previous_token: str = ""


def token_of(sort_key: str, *, backward: bool = False) -> str:
    """An opaque place in the order: after this key, or before it."""
    return base64.urlsafe_b64encode((("<" if backward else ">") + sort_key).encode()).decode().rstrip("=")


def _place(token: str) -> tuple[bool, str]:
    try:
        place = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise _bad_token() from error
    if place[:1] not in ("<", ">") or "\x00" in place:
        raise _bad_token()
    return place[0] == "<", place[1:]


def _bad_token() -> InvalidRequest:
    violation = ("page_token", "must be a token from the last response, or empty")
    return InvalidRequest("the page token is not one of ours", reason="BAD_PAGE_TOKEN", violations=[violation])


def page(session: Session, which: ClipFilter, size: int, token: str = "") -> Page:
    """Up to `size` clips from the token on. InvalidRequest for a token that is not ours."""
    conditions = which.conditions()
    backward, key = _place(token) if token else (False, "")
    bounds = [ClipRow.sort_key < key if backward else ClipRow.sort_key > key] if token else []
    order = ClipRow.sort_key.desc() if backward else ClipRow.sort_key
    query = select(ClipRow).where(*conditions, *bounds).order_by(order).limit(size + 1)
    rows = list(session.scalars(query))
    more, rows = len(rows) > size, rows[:size]
    if backward:
        rows.reverse()
    total = session.scalar(select(func.count()).select_from(ClipRow).where(*conditions)) or 0
    follows, precedes = (bool(rows), more) if backward else (more, bool(token and rows))
    return Page(
        clips=rows,
        total=total,
        next_token=token_of(rows[-1].sort_key) if follows else "",
        previous_token=token_of(rows[0].sort_key, backward=True) if precedes else "",
    )


def get(session: Session, clip_id: str, *, lock: bool = False) -> ClipRow:
    """One clip, locked for writing where asked. NotFound."""
    row = session.get(ClipRow, clip_id, with_for_update=lock)
    if row is None:
        raise NotFound(f"no clip {clip_id}", reason="CLIP_NOT_FOUND", clip_id=clip_id)
    return row


def history(session: Session, clip_id: str) -> Sequence[ChangeRow]:
    """Every change of a clip, newest first. NotFound."""
    get(session, clip_id)
    query = select(ChangeRow).where(ChangeRow.clip_id == clip_id).order_by(ChangeRow.revision.desc())
    return session.scalars(query).all()


def collections(session: Session) -> list[str]:
    """Names of the collections, in order."""
    return list(session.scalars(select(ClipRow.collection).distinct().order_by(ClipRow.collection)))


def verdict_counts(session: Session, which: ClipFilter) -> dict[str, int]:
    """How many clips have each verdict among those that match the rest of the filter."""
    conditions = ClipFilter(**{**which.__dict__, "verdict": ""}).conditions()
    query = select(ClipRow.verdict, func.count()).where(*conditions).group_by(ClipRow.verdict)
    return {row[0]: row[1] for row in session.execute(query)}
