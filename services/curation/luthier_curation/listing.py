"""Finding clips: filters, orders, pages by key (stable while others edit), counts, names of collections, history.

Nothing here looks at every clip of a large collection, but filters by digests, which takedowns ask for. A page is read
along an index of its order; counting ends at a bound, and what has no filter but collection, subset and verdict is
counted already (`ClipCount`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    ColumnElement,
    Float,
    Select,
    cast,
    false,
    func,
    literal,
    literal_column,
    select,
    true,
    tuple_,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, undefer

from luthier.common.v1.common_pb2 import FactSource, Mode
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import terms
from luthier_curation.tables import (
    OPEN,
    REASON_NAMES,
    VERDICT_NAMES,
    VERDICTS,
    ChangeRow,
    ClipCount,
    ClipRow,
    CollectionRow,
    OpinionRow,
    SkipRow,
)
from luthier_kit.rpc import InvalidRequest, NotFound, page_position, page_token

MAX_ID_CHARS = 64
DISAGREEMENTS = {
    number: name.removeprefix("ESTIMATOR_DISAGREEMENT_").lower()
    for name, number in pb.EstimatorDisagreement.items()
    if number
}
SORTED_BY: dict[pb.ClipOrder, InstrumentedAttribute[float] | InstrumentedAttribute[int]] = {
    pb.CLIP_ORDER_NEWEST: ClipRow.created_at_ms,
    pb.CLIP_ORDER_DISAGREEMENT: ClipRow.disagreement,
    pb.CLIP_ORDER_LOUDNESS: ClipRow.loudness_lufs,
    pb.CLIP_ORDER_LENGTH: ClipRow.duration_s,
    pb.CLIP_ORDER_NEXT: ClipRow.priority,
}
"""What an order sorts by, the highest first, and then by id; the order that is not named, by the sort key, from A
on."""


def conditions(session: Session, which: pb.ClipFilter, *, any_verdict: bool = False) -> list[ColumnElement[bool]]:
    """The filter in SQL: all of it must hold, what is absent or empty means any."""
    equal = {
        ClipRow.collection: which.collection,
        ClipRow.verdict: "" if any_verdict else VERDICT_NAMES[which.verdict],
        ClipRow.song_fingerprint: which.song_fingerprint,
        ClipRow.subset: which.subset,
        ClipRow.reason: REASON_NAMES[which.reason],
    }
    found = [column == value for column, value in equal.items() if value]
    said = terms.condition(session, which.text, _labels(which))
    if said is not None:
        found.append(said)
    if which.HasField("min_tempo_bpm"):
        found.append(ClipRow.tempo_bpm >= which.min_tempo_bpm)
    if which.HasField("max_tempo_bpm"):
        found.append(ClipRow.tempo_bpm <= which.max_tempo_bpm)
    if which.min_rating:
        found.append(ClipRow.rating >= which.min_rating)
        found.append(literal_column("clips.rating > 0", Boolean()))  # said, so that its index is used
    for message, field, digests in (
        (ClipRow.source, "midi_sha256", which.midi_sha256),
        (ClipRow.audio, "sha256", which.audio_sha256),
    ):
        if digests:
            found.append(type_coerce(message, JSON)[field].as_string().in_(list(digests)))
    if which.HasField("conflict"):
        found.append(ClipRow.conflict == true() if which.conflict else ~ClipRow.conflict)
    if which.reviewer:
        found.append(_judged_by(session, which))
    if which.assigned_to:
        asked = select(OpinionRow.clip_id).where(OpinionRow.reviewer == which.assigned_to, OpinionRow.verdict == "")
        found.append(ClipRow.clip_id.in_(asked))
    return found


def _judged_by(session: Session, which: pb.ClipFilter) -> ColumnElement[bool]:
    """That the filter's reviewer gave an opinion, or, who gave none, decided. Where one opinion is enough it decides,
    and the clip itself says whose it is."""
    decided = ClipRow.reviewer == which.reviewer
    if is_decided_by_one(session, which):
        return false() if VERDICT_NAMES[which.verdict] == OPEN else decided
    gave = select(OpinionRow.clip_id).where(OpinionRow.reviewer == which.reviewer, OpinionRow.verdict != "")
    return ClipRow.clip_id.in_(gave) if session.scalar(gave.limit(1)) is not None else decided


def is_decided_by_one(session: Session, which: pb.ClipFilter) -> bool:
    """Whether a clip that matches needs one opinion."""
    return bool(which.collection) and opinions_per_clip(session, which.collection) == 1


def opinions_per_clip(session: Session, collection: str) -> int:
    """How many opinions a clip of this collection needs."""
    row = session.get(CollectionRow, collection)
    return row.opinions_per_clip if row else 1


def _labels(which: pb.ClipFilter) -> list[str]:
    """What of a filter is said by labels; see `terms.terms_of`."""
    texts = {
        "instrument": which.instrument,
        "tonic": which.tonic,
        "mode": Mode.Name(which.mode) if which.mode else "",
        "tag": which.tag,
        "provider": which.tag_source,
        "artist": which.artist,
        "composer": which.composer,
        "source": FactSource.Name(which.fact_source) if which.fact_source else "",
        "disagreement": DISAGREEMENTS.get(which.disagreement, ""),
        "related": which.related_to,
        "checked": str(which.checked) if which.HasField("checked") else "",
        "near-duplicates": str(which.near_duplicates) if which.HasField("near_duplicates") else "",
    }
    return [terms.label(kind, value) for kind, value in texts.items() if value]


@dataclass(frozen=True)
class Count:
    """How many there are, or that there are more than `clips`."""

    clips: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.clips:,}+" if self.more else f"{self.clips:,}"


@dataclass(frozen=True)
class Page:
    """Clips in the order that was asked for; tokens are empty where there is no such page."""

    clips: Sequence[ClipRow]
    total: Count
    next_token: str
    previous_token: str = ""


def position_after(request: pb.ListClipsRequest, row: ClipRow) -> str:
    """The position, for a page's token, of what follows this clip in the request's order."""
    return ">" + _position(request, row)


def _position(request: pb.ListClipsRequest, row: ClipRow) -> str:
    column = SORTED_BY.get(request.order)
    if column is None:
        return row.sort_key
    skip = next((skip for skip in row.skips if skip.reviewer == _skipper(request)), None)
    value = -skip.at.ToMilliseconds() if skip else getattr(row, column.key)
    return json.dumps([value, row.clip_id])


def _skipper(request: pb.ListClipsRequest) -> str:
    """Whose skipped clips come last in this order; empty = nobody's."""
    return request.for_reviewer if request.order == pb.CLIP_ORDER_NEXT else ""


def page(session: Session, request: pb.ListClipsRequest, size: int) -> Page:
    """Up to `size` clips from the request's token on. InvalidRequest for a token of another list."""
    position = page_position(request)
    backward = position.startswith("<")
    ids = _ids(session, request, position, size + 1)
    more, ids = len(ids) > size, ids[:size]
    if backward:
        ids.reverse()
    by_id = {row.clip_id: row for row in session.scalars(select(ClipRow).where(ClipRow.clip_id.in_(ids)))}
    rows = [by_id[clip_id] for clip_id in ids]
    limit = request.count_limit if request.HasField("count_limit") else None
    follows, precedes = (bool(rows), more) if backward else (more, bool(position and rows))
    return Page(
        clips=rows,
        total=count(session, request.filter, limit),
        next_token=page_token(request, position_after(request, rows[-1])) if follows else "",
        previous_token=page_token(request, "<" + _position(request, rows[0])) if precedes else "",
    )


def _ids(session: Session, request: pb.ListClipsRequest, position: str, size: int) -> list[str]:
    """Ids of the clips at a position. Where a collection is named, each verdict is read along its own part of the index
    and the parts are merged: no index has all verdicts in one order. What a reviewer skipped is a part of its own,
    sorted by when, below all others."""
    column, key = SORTED_BY.get(request.order), position[1:]
    descending = (column is not None) ^ request.reverse ^ position.startswith("<")
    keys: list[Any] = [ClipRow.sort_key] if column is None else [column, ClipRow.clip_id]
    values = list[Any]()
    if position:
        values = [literal(value) for value in ([key] if column is None else _values(key))]
    verdict = VERDICT_NAMES[request.filter.verdict]
    matching = conditions(session, request.filter, any_verdict=True)
    parts = [verdict] if verdict else list(VERDICTS) if request.filter.collection else [""]
    if request.filter.reviewer and is_decided_by_one(session, request.filter):
        parts = [name for name in parts if name != OPEN]  # who decided is of what is decided
    if not parts:
        return []

    def part(name: str, keys: list[Any], *more: ColumnElement[bool]) -> Select[Any]:
        query = select(ClipRow.clip_id, *(item.label(f"key{index}") for index, item in enumerate(keys)))
        of_verdict = [ClipRow.verdict == name] if name else []
        bounds: list[ColumnElement[bool]] = []
        if values:
            bounds = [tuple_(*keys) < tuple_(*values) if descending else tuple_(*keys) > tuple_(*values)]
        query = query.where(*of_verdict, *matching, *more, *bounds)
        return query.order_by(*_ordered(keys, descending)).limit(size)

    queries = [part(name, keys) for name in parts]
    if skipper := _skipper(request):
        mine = (SkipRow.clip_id == ClipRow.clip_id, SkipRow.reviewer == skipper)
        not_mine = ~select(SkipRow.clip_id).where(*mine).exists()
        later = [cast(-SkipRow.at_ms, Float), ClipRow.clip_id]
        queries = [part(name, keys, not_mine) for name in parts] + [part(name, later, *mine) for name in parts]
    merged = union_all(*(query.subquery().select() for query in queries)).subquery()
    names = [merged.c[f"key{index}"] for index in range(len(keys))]
    return list(session.scalars(select(merged.c.clip_id).order_by(*_ordered(names, descending)).limit(size)))


def _ordered(keys: Sequence[ColumnElement[object]], descending: bool) -> list[ColumnElement[object]]:
    return [key.desc() if descending else key.asc() for key in keys]


def _values(key: str) -> list[float | str]:
    """Value and id of a position. Its token is ours, or of a list in another order."""
    try:
        value, clip_id = json.loads(key)
        return [float(value), str(clip_id)]
    except (ValueError, TypeError):
        bound = "must be the next_page_token of an earlier response to the same request"
        raise InvalidRequest(reason="PAGE_TOKEN_INVALID", violations=[("page_token", bound)]) from None


def get(session: Session, clip_id: str, *, lock: bool = False) -> ClipRow:
    """One clip, locked for writing where asked. NotFound."""
    possible = len(clip_id) <= MAX_ID_CHARS and "\x00" not in clip_id  # PostgreSQL takes no NUL
    whole = [undefer(ClipRow.incoming)]
    row = session.get(ClipRow, clip_id, options=whole, with_for_update=lock) if possible else None
    if row is None:
        raise NotFound(f"no clip {clip_id[:MAX_ID_CHARS]!r}", reason="CLIP_NOT_FOUND", clip_id=clip_id[:MAX_ID_CHARS])
    return row


def history(session: Session, clip_id: str) -> Sequence[ChangeRow]:
    """Every change of a clip, newest first. NotFound."""
    get(session, clip_id)
    query = select(ChangeRow).where(ChangeRow.clip_id == clip_id).order_by(ChangeRow.revision.desc())
    return session.scalars(query).all()


# --- counts


def is_counted(which: pb.ClipFilter) -> bool:
    """Whether a filter has no more than collection, subset and verdict: such clips are counted already."""
    return {field.name for field, _ in which.ListFields()} <= {"collection", "subset", "verdict"}


def count(session: Session, which: pb.ClipFilter, limit: int | None) -> Count:
    """How many clips match; counting ends at `limit`, None = never."""
    if which.verdict and not is_counted(which) and limit is not None:
        first = select(ClipRow.clip_id).where(*conditions(session, which)).limit(limit + 1).subquery()
        clips = session.scalar(select(func.count()).select_from(first)) or 0
        return Count(min(clips, limit), clips > limit)
    counts = verdict_counts(session, which, limit)
    of_verdict = [counts[VERDICT_NAMES[which.verdict]]] if which.verdict else list(counts.values())
    return Count(sum(found.clips for found in of_verdict), any(found.more for found in of_verdict))


def verdict_counts(session: Session, which: pb.ClipFilter, limit: int | None = None) -> dict[str, Count]:
    """How many clips have each verdict among those that match the rest of the filter. Counting ends at `limit` of them
    all; then there are more of each, perhaps."""
    if is_counted(which):
        equal = {ClipCount.collection: which.collection, ClipCount.subset: which.subset}
        query = select(ClipCount.verdict, func.sum(ClipCount.clips)).group_by(ClipCount.verdict)
        found = session.execute(query.where(*(column == value for column, value in equal.items() if value)))
        known = {row[0]: int(row[1]) for row in found}
        return {verdict: Count(known.get(verdict, 0)) for verdict in VERDICTS}
    first = select(ClipRow.verdict).where(*conditions(session, which, any_verdict=True))
    first = first if limit is None else first.limit(limit + 1)
    some = first.subquery()
    grouped = session.execute(select(some.c.verdict, func.count()).group_by(some.c.verdict))
    counts = {row[0]: int(row[1]) for row in grouped}
    more = limit is not None and sum(counts.values()) > limit
    if more:  # the one beyond the bound was only to know that there is one
        largest = max(counts, key=lambda verdict: counts[verdict])
        counts[largest] -= 1
    return {verdict: Count(counts.get(verdict, 0), more) for verdict in VERDICTS}


def collections(session: Session, name: str = "") -> Iterator[tuple[str, dict[str, int]]]:
    """Names of the collections that have clips, in order, each with its clips by verdict."""
    of_name = [ClipCount.collection == name] if name else []
    query = select(ClipCount.collection, ClipCount.verdict, func.sum(ClipCount.clips)).where(*of_name)
    query = query.group_by(ClipCount.collection, ClipCount.verdict).order_by(ClipCount.collection, ClipCount.verdict)
    for collection, rows in groupby(session.execute(query), key=lambda row: row[0]):
        counts = {row[1]: int(row[2]) for row in rows}
        if any(counts.values()):
            yield collection, counts


def subsets(session: Session, collection: str) -> list[str]:
    """Names of the subsets that a collection has clips of, in order; of all collections where none is named."""
    of_collection = [ClipCount.collection == collection] if collection else []
    query = select(ClipCount.subset).where(*of_collection).group_by(ClipCount.subset)
    return list(session.scalars(query.having(func.sum(ClipCount.clips) > 0).order_by(ClipCount.subset)))
