"""What people (and stated rules) do with clips: edit, decide, skip, undo."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from luthier.common.v1.common_pb2 import ClipFacts, InstrumentFact, KeyFact, TempoFact, VoicePresence
from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1.curation_pb2 import BadPassage, Opinion, Skip
from luthier_curation import listing, terms
from luthier_curation.clips import (
    CUT,
    EDITABLE_FACTS,
    EDITED,
    IMPORTED,
    OPEN_AGAIN,
    REVIEWED,
    SKIPPED,
    UNCUT,
    UNDONE,
    Author,
    change,
    edited_prompts,
    is_kept_back,
    tags_by_person,
    tempo_by_person,
    voice_by_person,
    with_fact,
)
from luthier_curation.doubt import CONFLICT
from luthier_curation.mending import checked, mended
from luthier_curation.tables import (
    NEVER,
    OPEN,
    REASON_NAMES,
    REJECTED,
    VERDICT_NAMES,
    ChangeRow,
    ClipRow,
    ClipValues,
    OpinionRow,
    SkipRow,
)
from luthier_curation.verdicts import Decision, Standing, decided, difference, skipped
from luthier_kit.rpc import Aborted, Checks, FailedPrecondition, NotFound

EDGE_S = 0.0015
"""A passage that ends this far behind the clip ends with it: lengths are known to the millisecond."""
CHUNK = 500
"""clips held in memory at once while a filter's worth of clips is reviewed."""
UNDOABLE = (EDITED, REVIEWED, UNDONE, SKIPPED, IMPORTED, CUT)


@dataclass(frozen=True)
class Edit:
    """New values of a clip; None leaves a field as it is. What a tempo's number counts: see `tempo_by_person`. Tags are
    texts with their kinds."""

    prompts: list[str] | None = None
    instruments: list[InstrumentFact] | None = None
    tempo: TempoFact | None = None
    key: KeyFact | None = None
    voice: VoicePresence | None = None
    tags: list[tuple[str, str]] | None = None
    bad_passages: list[BadPassage] | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Reviewed:
    """How many clips changed, had that verdict already, or could not be undone; and the batch's name."""

    changed: int
    unchanged: int
    batch_id: str


def edit(session: Session, clip_id: str, expected_revision: int, reviewer: str, wanted: Edit) -> tuple[ClipRow, str]:
    """Apply a person's edit: the clip as it is now, and the batch to undo it by ("" = nothing was different).

    Corrected facts and tags mend the prompts (`mending.mended`); a person's own words are checked and kept, whatever
    the check says. Aborted when the expected revision is not the newest; NotFound.
    """
    row = listing.get(session, clip_id, lock=True)
    expect(row, expected_revision)
    tempo = None if wanted.tempo is None else tempo_by_person(wanted.tempo, row.facts.tempo)
    voice = None if wanted.voice is None else voice_by_person(wanted.voice, row.facts.voice)
    stated = ClipFacts(instruments=wanted.instruments, tempo=tempo, key=wanted.key, voice=voice)
    facts, edited = row.facts, set(row.edited_fields)
    for name in EDITABLE_FACTS:
        if getattr(wanted, name) is not None and (corrected := with_fact(facts, name, stated)) != facts:
            facts = corrected
            edited.add(f"facts.{name}")
    tags = row.tags if wanted.tags is None else tags_by_person(wanted.tags, row.tags)
    edited |= {"tags"} if tags != row.tags else set()
    prompts = row.prompts
    if wanted.prompts is not None:
        prompts = edited_prompts(wanted.prompts, row.prompts)
        settled = prompts != row.prompts or any(map(is_kept_back, prompts))  # a caption may be right as it is
        edited |= {"prompts"} if settled else set()
    if (facts, tags) != (row.facts, row.tags):
        prompts = mended(row.clip_id, prompts, facts, tags)
    elif wanted.prompts is not None:
        prompts = [prompt if prompt.HasField("check") else checked(prompt, facts, tags) for prompt in prompts]
    values = ClipValues(
        facts=facts,
        tags=tags,
        prompts=prompts,
        edited_fields=sorted(edited),
        remark=wanted.remark,
        bad_passages=wanted.bad_passages,
    )
    check_passages(wanted.bad_passages or [], row.duration_s)
    author = Author(EDITED, reviewer)
    return row, author.batch_id if change(session, row, values, author) else ""


def check_passages(passages: Sequence[BadPassage], duration_s: float) -> None:
    """InvalidRequest unless they are in order, disjoint and within a clip of this length, in seconds."""
    checks, end_s = Checks(), 0.0
    for index, passage in enumerate(passages):
        span, field = passage.span, f"bad_passages[{index}].span"
        checks.within(f"{field}.start_s", span.start_s, end_s, duration_s)
        checks.above(f"{field}.end_s", span.end_s, span.start_s, duration_s + EDGE_S)
        end_s = span.end_s
    checks.done()


def expect(row: "ClipRow | ClipStanding", revision: int) -> None:
    """Aborted unless the clip is still at the revision that the caller saw."""
    if row.revision != revision:
        raise Aborted(
            f"clip {row.clip_id} is at revision {row.revision}, not {revision}: someone changed it first",
            reason="REVISION_MISMATCH",
            clip_id=row.clip_id,
            revision=str(row.revision),
            expected_revision=str(revision),
        )


# --- verdicts


def review(session: Session, revisions: dict[str, int], decision: Decision, author: Author | None = None) -> Reviewed:
    """Decide about these clips {id: expected revision, 0 = newest}, all or none. Aborted on a mismatch; NotFound.

    The change is the reviewer's own unless its author is given, whose other changes are undone with it.
    """
    rows = {row.clip_id: row for row in _standings(session, ClipRow.clip_id.in_(revisions))}
    if missing := sorted(revisions.keys() - rows.keys()):
        raise NotFound(f"no clip {missing[0]}", reason="CLIP_NOT_FOUND", clip_id=missing[0])
    for name, revision in revisions.items():
        if revision:
            expect(rows[name], revision)
    author = replace(author or Author(REVIEWED, decision.reviewer, decision.automatic), kind=REVIEWED)
    changed = decide(session, list(rows.values()), dict.fromkeys(rows, decision), author)
    return Reviewed(changed, len(rows) - changed, author.batch_id)


def review_all(session: Session, which: pb.ClipFilter, decision: Decision) -> Reviewed:
    """Decide about every clip that matches, on whichever page it is."""
    author, seen, changed, last = Author(REVIEWED, decision.reviewer, decision.automatic), 0, 0, ""
    while chunk := review_chunk(session, which, decision, author, last):
        seen, changed, last = seen + chunk.seen, changed + chunk.changed, chunk.last_clip_id
    return Reviewed(changed, seen - changed, author.batch_id)


@dataclass(frozen=True)
class Chunk:
    """How many clips were looked at and changed, and the last of them."""

    seen: int
    changed: int
    last_clip_id: str


def review_chunk(
    session: Session, which: pb.ClipFilter, decision: Decision, author: Author, after: str
) -> Chunk | None:
    """Decide about the first CHUNK clips that match behind an id; None = there are none. By id, because reviewing
    changes what matches."""
    matching = listing.conditions(session, which)
    rows = _standings(session, *matching, ClipRow.clip_id > after)
    if not rows:
        return None
    changed = decide(session, rows, {row.clip_id: decision for row in rows}, author)
    return Chunk(len(rows), changed, rows[-1].clip_id)


@dataclass(frozen=True)
class ClipStanding:
    """A clip, locked, with its standing, and the opinions that a clip of its collection needs."""

    clip_id: str
    revision: int
    standing: Standing
    opinions_per_clip: int


STANDING = (
    ClipRow.verdict, ClipRow.reviewer, ClipRow.automatic, ClipRow.remark, ClipRow.reason, ClipRow.rating,
    ClipRow.conflict, ClipRow.settled, ClipRow.skipped_at_ms,
)  # fmt: skip


def _standings(session: Session, *conditions: ColumnElement[bool]) -> list[ClipStanding]:
    """The first CHUNK clips that match, locked, by id."""
    session.flush()
    query = select(ClipRow.clip_id, ClipRow.revision, ClipRow.collection, *STANDING).where(*conditions)
    query = query.order_by(ClipRow.clip_id).limit(CHUNK).with_for_update()
    found = session.execute(query).all()
    wanted = {name: listing.opinions_per_clip(session, name) for name in {row.collection for row in found}}
    given: dict[str, list[Opinion]] = {}
    of_clips = OpinionRow.clip_id.in_([row.clip_id for row in found])
    for opinion in session.scalars(select(OpinionRow).where(of_clips, OpinionRow.verdict != "")):
        given.setdefault(opinion.clip_id, []).append(opinion.message())
        session.expunge(opinion)  # what `decide` writes goes past these objects
    skips: dict[str, list[Skip]] = {}
    for skip in session.scalars(select(SkipRow).where(SkipRow.clip_id.in_([row.clip_id for row in found]))):
        skips.setdefault(skip.clip_id, []).append(skip.message())
        session.expunge(skip)
    return [
        ClipStanding(
            row.clip_id,
            row.revision,
            replace(
                Standing(*row[3:]),
                opinions=tuple(sorted(given.get(row.clip_id, ()), key=lambda item: item.reviewer)),
                skips=tuple(sorted(skips.get(row.clip_id, ()), key=lambda item: item.reviewer)),
            ),
            wanted[row.collection],
        )
        for row in found
    ]


def standing_of(row: ClipRow) -> Standing:
    """The standing of a clip."""
    standing = Standing(*(getattr(row, column.key) for column in STANDING))
    return replace(standing, opinions=tuple(row.opinions), skips=tuple(row.skips))


def decide(session: Session, rows: list[ClipStanding], decisions: dict[str, Decision], author: Author) -> int:
    """Decide about locked clips; how many changed. Written in few statements, however many there are: nothing of a clip
    is read or written but its standing."""
    now = time.time_ns() // 1_000_000
    outcomes = [(row, decided(row.standing, decisions[row.clip_id], row.opinions_per_clip, now)) for row in rows]
    changed = [(row, after) for row, after in outcomes if after is not row.standing]
    stand(session, changed, author, now)
    return len(changed)


def stand(session: Session, changed: list[tuple[ClipStanding, Standing]], author: Author, now_ms: int) -> None:
    """Write new standings, with a revision and a line of history each."""
    alike: dict[tuple[object, ...], list[str]] = {}
    columns = [item.name for item in fields(Standing) if item.name not in ("opinions", "skips")]
    for row, after in changed:
        alike.setdefault(tuple(getattr(after, name) for name in columns), []).append(row.clip_id)
    for values, ids in alike.items():
        standing = dict(zip(columns, values, strict=True))
        doubtful = ClipRow.doubt + (CONFLICT if standing["conflict"] else 0.0)
        session.execute(
            update(ClipRow).where(ClipRow.clip_id.in_(ids)).values(
                **standing, revision=ClipRow.revision + 1, updated_at_ms=now_ms,
                priority=doubtful,
            ).execution_options(synchronize_session=False)
        )  # fmt: skip
    _write_opinions(session, changed)
    _write_skips(session, changed)
    lines = []
    for row, after in changed:
        before_values, after_values = difference(row.standing, after)
        lines.append({
            "clip_id": row.clip_id, "revision": row.revision + 1, "batch_id": author.batch_id, "kind": author.kind,
            "who": author.who, "automatic": author.automatic, "at_ms": now_ms, "before": before_values,
            "after": after_values,
        })  # fmt: skip
    if lines:
        session.execute(insert(ChangeRow), lines)
    session.expire_all()


def _write_opinions(session: Session, changed: list[tuple[ClipStanding, Standing]]) -> None:
    """The opinions that are new or other, and without those that were withdrawn: who was asked for one is asked
    again."""
    new, withdrawn = list[dict[str, object]](), list[dict[str, object]]()
    for row, after in changed:
        before = {opinion.reviewer: opinion for opinion in row.standing.opinions}
        now = {opinion.reviewer: opinion for opinion in after.opinions}
        new += [
            {
                "clip_id": row.clip_id, "reviewer": name, "asked": False, "verdict": VERDICT_NAMES[opinion.verdict],
                "reason": REASON_NAMES[opinion.reason], "rating": opinion.rating, "remark": opinion.remark,
                "at_ms": opinion.at.ToMilliseconds(),
            }
            for name, opinion in now.items()
            if before.get(name) != opinion
        ]  # fmt: skip
        withdrawn += [{"of_clip": row.clip_id, "of_reviewer": name} for name in before.keys() - now.keys()]
    table = cast(Table, OpinionRow.__table__)
    if withdrawn:
        one = (table.c.clip_id == bindparam("of_clip"), table.c.reviewer == bindparam("of_reviewer"))
        connection = session.connection()
        connection.execute(delete(table).where(*one, ~table.c.asked), withdrawn)
        blank = {"verdict": "", "reason": "", "rating": 0, "remark": "", "at_ms": NEVER}
        connection.execute(update(table).where(*one).values(**blank), withdrawn)
    if new:
        given = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(OpinionRow)
        values = {name: given.excluded[name] for name in ("verdict", "reason", "rating", "remark", "at_ms")}
        session.execute(given.on_conflict_do_update(index_elements=["clip_id", "reviewer"], set_=values), new)


def _write_skips(session: Session, changed: list[tuple[ClipStanding, Standing]]) -> None:
    """The skips that are new or later, and without those that are over."""
    other = [(row, after) for row, after in changed if row.standing.skips != after.skips]
    if not other:
        return
    of_clips = SkipRow.clip_id.in_([row.clip_id for row, _ in other])
    session.execute(delete(SkipRow).where(of_clips).execution_options(synchronize_session=False))
    rows = [
        {"clip_id": row.clip_id, "reviewer": skip.reviewer, "at_ms": skip.at.ToMilliseconds()}
        for row, after in other
        for skip in after.skips
    ]
    if rows:
        session.execute(insert(SkipRow), rows)


def skip(session: Session, ids: Sequence[str], reviewer: str) -> Reviewed:
    """Put open clips at the end of the reviewer's own order to judge in; those that are decided stay. NotFound."""
    rows = _standings(session, ClipRow.clip_id.in_(ids))
    if missing := sorted(set(ids) - {row.clip_id for row in rows}):
        raise NotFound(f"no clip {missing[0]}", reason="CLIP_NOT_FOUND", clip_id=missing[0])
    author, now = Author(SKIPPED, reviewer), time.time_ns() // 1_000_000
    later = [(row, skipped(row.standing, reviewer, now)) for row in rows if row.standing.verdict == OPEN]
    stand(session, later, author, now)
    return Reviewed(len(later), len(rows) - len(later), author.batch_id)


# --- undo


def undo(session: Session, batch_id: str, reviewer: str) -> tuple[Reviewed, list[str]]:
    """Take back a batch of edits or verdicts: what became of it, and the ids of the clips taken back.

    Clips that were changed since stay as they are, and count as unchanged. NotFound for an unknown batch;
    FailedPrecondition for the pipeline's own changes.
    """
    author, found, taken_back, last = Author(UNDONE, reviewer), 0, list[str](), ""
    while chunk := undo_chunk(session, batch_id, author, last):
        found, last = found + chunk.seen, chunk.last_clip_id
        taken_back += chunk.changed_ids
    if not found:
        raise unknown_batch(batch_id)
    return Reviewed(len(taken_back), found - len(taken_back), author.batch_id), taken_back


def unknown_batch(batch_id: str) -> NotFound:
    """What is said of a batch that there is not."""
    return NotFound("there is no such change", reason="BATCH_NOT_FOUND", batch_id=batch_id[: listing.MAX_ID_CHARS])


@dataclass(frozen=True)
class UndoneChunk(Chunk):
    """A chunk of an undo, and the ids of the clips taken back."""

    changed_ids: list[str]


def check_undoable(kinds: Iterable[str]) -> None:
    """FailedPrecondition for changes that were no person's and no rule's."""
    if not set(kinds) <= set(UNDOABLE):
        raise FailedPrecondition("only edits and verdicts can be undone", reason="NOT_UNDOABLE")


def _before(made: Any, author: Author) -> ClipValues:
    """What a change replaced; of a part that was cut, that it is taken away.

    Luthier 0.1 knew no opinions: who judged a clip was its reviewer alone. Nor was it known whose a skip was.
    """
    if made.kind == CUT:
        return ClipValues(
            **{**OPEN_AGAIN, "verdict": REJECTED, "reviewer": author.who, "reason": "bad_cut", "remark": UNCUT,
               "settled": True}
        )  # fmt: skip
    before: ClipValues = made.before
    after: ClipValues = made.after
    if made.kind == SKIPPED and before.skips is None:
        return replace(before, skips=[])
    first = before.verdict == OPEN and before.conflict is None and after.opinions is None and after.settled is None
    return replace(before, opinions=[]) if first and made.kind == REVIEWED and not made.automatic else before


def undo_chunk(session: Session, batch_id: str, author: Author, after: str) -> UndoneChunk | None:
    """Take back the first CHUNK changes of a batch behind the id of a clip; None = there are none. FailedPrecondition
    for what cannot be undone."""
    columns = (
        ChangeRow.clip_id,
        ChangeRow.revision,
        ChangeRow.kind,
        ChangeRow.automatic,
        ChangeRow.before,
        ChangeRow.after,
    )
    query = select(*columns).where(ChangeRow.batch_id == batch_id, ChangeRow.clip_id > after)
    lines = session.execute(query.order_by(ChangeRow.clip_id).limit(CHUNK)).all()
    if not lines:
        return None
    check_undoable({line.kind for line in lines})
    rows = {row.clip_id: row for row in _standings(session, ClipRow.clip_id.in_([line.clip_id for line in lines]))}
    changed_since = {line.clip_id: line.revision for line in lines if rows[line.clip_id].revision != line.revision}
    kept = changed_since.keys() - _as_left(session, changed_since)
    newest = {line.clip_id: _before(line, author) for line in lines if line.clip_id not in kept}
    judged = {name: _standing_values(values) for name, values in newest.items()}
    restored = [
        (rows[name], replace(rows[name].standing, **values)) for name, values in judged.items() if values is not None
    ]
    restored = [(row, standing) for row, standing in restored if standing != row.standing]
    stand(session, restored, author, time.time_ns() // 1_000_000)
    taken_back = [row.clip_id for row, _ in restored]
    edited = [name for name, values in judged.items() if values is None]
    for row in session.scalars(select(ClipRow).where(ClipRow.clip_id.in_(edited))):
        if change(session, row, newest[row.clip_id], author):
            taken_back.append(row.clip_id)
    session.flush()
    terms.settle(session)
    session.expunge_all()
    return UndoneChunk(len(lines), len(taken_back), lines[-1].clip_id, taken_back)


def _as_left(session: Session, revisions: dict[str, int]) -> set[str]:
    """Which of these clips {id: revision} are as that revision left them: all that happened since was taken back."""
    columns = (ChangeRow.clip_id, ChangeRow.revision, ChangeRow.before, ChangeRow.after)
    query = select(*columns).where(ChangeRow.clip_id.in_(revisions)).order_by(ChangeRow.clip_id, ChangeRow.revision)
    then = {name: dict[str, object]() for name in revisions}
    now = {name: dict[str, object]() for name in revisions}
    for line in session.execute(query) if revisions else ():
        if line.revision <= revisions[line.clip_id]:
            continue
        for item in fields(ClipValues):
            if (value := getattr(line.after, item.name)) is not None:
                then[line.clip_id].setdefault(item.name, getattr(line.before, item.name))
                now[line.clip_id][item.name] = value
    return {name for name in revisions if then[name] == now[name]}


def _standing_values(values: ClipValues) -> dict[str, Any] | None:
    """The values as a standing has them; None where there are others among them."""
    found = {item.name: value for item in fields(values) if (value := getattr(values, item.name)) is not None}
    found |= {name: tuple(found[name]) for name in ("opinions", "skips") if name in found}
    return found if found.keys() <= {item.name for item in fields(Standing)} else None
