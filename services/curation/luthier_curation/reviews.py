"""What people (and stated rules) do with clips: edit, decide, undo."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from luthier.common.v1.common_pb2 import ClipFacts, InstrumentFact, KeyFact, TempoFact, VoicePresence
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import listing
from luthier_curation.clips import (
    EDITABLE_FACTS,
    EDITED,
    REVIEWED,
    UNDONE,
    Author,
    change,
    edited_prompts,
    is_kept_back,
    tempo_by_person,
    unchecked,
    voice_by_person,
    with_fact,
)
from luthier_curation.tables import OPEN, ChangeRow, ClipRow, ClipValues
from luthier_kit.rpc import Aborted, FailedPrecondition, NotFound

CHUNK = 500
"""clips held in memory at once while a filter's worth of clips is reviewed."""
UNDOABLE = (EDITED, REVIEWED, UNDONE)


@dataclass(frozen=True)
class Edit:
    """New values of a clip; None leaves a field as it is. What a tempo's number counts: see `tempo_by_person`."""

    prompts: list[str] | None = None
    instruments: list[InstrumentFact] | None = None
    tempo: TempoFact | None = None
    key: KeyFact | None = None
    voice: VoicePresence | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Decision:
    """A verdict, who gives it, and whether a rule did. An empty remark leaves the remark as it is."""

    verdict: str
    reviewer: str
    automatic: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Reviewed:
    """How many clips changed, had that verdict already, or could not be undone; and the batch's name."""

    changed: int
    unchanged: int
    batch_id: str


def edit(session: Session, clip_id: str, expected_revision: int, reviewer: str, wanted: Edit) -> tuple[ClipRow, str]:
    """Apply a person's edit: the clip as it is now, and the batch to undo it by ("" = nothing was different).

    Corrected facts void the checks of the prompts. Aborted when the expected revision is not the newest; NotFound.
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
    prompts = row.prompts
    if wanted.prompts is not None:
        prompts = edited_prompts(wanted.prompts, row.prompts)
        settled = prompts != row.prompts or any(map(is_kept_back, prompts))  # a caption may be right as it is
        edited |= {"prompts"} if settled else set()
    if facts != row.facts:
        prompts = unchecked(prompts)
    values = ClipValues(facts=facts, prompts=prompts, edited_fields=sorted(edited), remark=wanted.remark)
    author = Author(EDITED, reviewer)
    return row, author.batch_id if change(session, row, values, author) else ""


def expect(row: ClipRow, revision: int) -> None:
    """Aborted unless the clip is still at the revision that the caller saw."""
    if row.revision != revision:
        raise Aborted(
            f"clip {row.clip_id} is at revision {row.revision}, not {revision}: someone changed it first",
            reason="REVISION_MISMATCH",
            clip_id=row.clip_id,
            revision=str(row.revision),
            expected_revision=str(revision),
        )


def review(session: Session, clips: dict[str, int], decision: Decision) -> Reviewed:
    """Decide about these clips {id: expected revision, 0 = newest}, all or none. Aborted on a mismatch; NotFound."""
    rows = {row.clip_id: row for chunk in _chunks(session, ClipRow.clip_id.in_(clips)) for row in chunk}
    if missing := sorted(clips.keys() - rows.keys()):
        raise NotFound(f"no clip {missing[0]}", reason="CLIP_NOT_FOUND", clip_id=missing[0])
    for name, revision in clips.items():
        if revision:
            expect(rows[name], revision)
    author = Author(REVIEWED, decision.reviewer, decision.automatic)
    changed = sum(_decide(session, row, decision, author) for row in rows.values())
    return Reviewed(changed, len(rows) - changed, author.batch_id)


def review_all(session: Session, which: pb.ClipFilter, decision: Decision) -> Reviewed:
    """Decide about every clip that matches, on whichever page it is."""
    author, seen, changed = Author(REVIEWED, decision.reviewer, decision.automatic), 0, 0
    for rows in _chunks(session, *listing.conditions(which)):
        seen += len(rows)
        changed += sum(_decide(session, row, decision, author) for row in rows)
        session.flush()
        session.expunge_all()
    return Reviewed(changed, seen - changed, author.batch_id)


def _chunks(session: Session, *conditions: ColumnElement[bool]) -> Iterator[list[ClipRow]]:
    """The clips that match, locked, by id: by the key, because reviewing changes what matches."""
    last = ""
    while True:
        query = select(ClipRow).where(*conditions, ClipRow.clip_id > last).order_by(ClipRow.clip_id)
        rows = list(session.scalars(query.limit(CHUNK).with_for_update()))
        if not rows:
            return
        last = rows[-1].clip_id
        yield rows


def _decide(session: Session, row: ClipRow, decision: Decision, author: Author) -> bool:
    """A rule never overrules a person; a person may confirm what a rule decided."""
    if decision.automatic and row.verdict != OPEN and not row.automatic:
        return False
    automatic = decision.automatic and decision.verdict != OPEN
    remark = decision.remark or None
    if row.verdict == decision.verdict and row.automatic == automatic:
        return change(session, row, ClipValues(remark=remark), author)
    reviewer = "" if decision.verdict == OPEN else decision.reviewer
    values = ClipValues(verdict=decision.verdict, reviewer=reviewer, automatic=automatic, remark=remark)
    return change(session, row, values, author)


def undo(session: Session, batch_id: str, reviewer: str) -> tuple[Reviewed, list[str]]:
    """Take back a batch of edits or verdicts: what became of it, and the ids of the clips taken back.

    Clips that were changed since stay as they are, and count as unchanged. NotFound for an unknown batch;
    FailedPrecondition for the pipeline's own changes.
    """
    author, found, taken_back = Author(UNDONE, reviewer), 0, list[str]()
    for batch in _batch(session, batch_id):
        found += len(batch)
        taken_back += [
            row.clip_id
            for made, row in batch
            if row.revision == made.revision and change(session, row, made.before, author)
        ]
        session.flush()
        session.expunge_all()
    if not found:
        raise NotFound("there is no such change to undo", reason="BATCH_NOT_FOUND", batch_id=batch_id)
    return Reviewed(len(taken_back), found - len(taken_back), author.batch_id), taken_back


def _batch(session: Session, batch_id: str) -> Iterator[list[tuple[ChangeRow, ClipRow]]]:
    """The changes of a batch with their clips, locked, by clip. FailedPrecondition for what cannot be undone."""
    last = ""
    while True:
        query = select(ChangeRow, ClipRow).join(ClipRow, ClipRow.clip_id == ChangeRow.clip_id)
        query = query.where(ChangeRow.batch_id == batch_id, ChangeRow.clip_id > last).order_by(ChangeRow.clip_id)
        rows = [(row[0], row[1]) for row in session.execute(query.limit(CHUNK).with_for_update(of=ClipRow))]
        if not rows:
            return
        if rows[0][0].kind not in UNDOABLE:
            raise FailedPrecondition("only edits and verdicts can be undone", reason="NOT_UNDOABLE")
        last = rows[-1][1].clip_id
        yield rows
