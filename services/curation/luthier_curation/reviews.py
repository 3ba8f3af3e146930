"""What people (and stated rules) do with clips: edit, decide, undo."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from luthier_curation import changes, listing
from luthier_curation.changes import Author
from luthier_curation.content import Json, edited_prompts, unchecked
from luthier_curation.listing import ClipFilter
from luthier_curation.tables import OPEN, ChangeRow, ClipRow
from luthier_kit.errors import Aborted, FailedPrecondition, NotFound

CHUNK = 500
"""clips held in memory at once while a filter's worth of clips is reviewed."""
UNDOABLE = (changes.EDITED, changes.REVIEWED, changes.UNDONE)


@dataclass(frozen=True)
class Edit:
    """New values of a clip; None leaves a field as it is."""

    prompts: list[str] | None = None
    instruments: list[Json] | None = None
    tempo: Json | None = None
    key: Json | None = None
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
    values: dict[str, Any] = {"facts": dict(row.facts), "prompts": row.prompts}
    edited = set(row.edited_fields)
    for name in ("instruments", "tempo", "key"):
        value = getattr(wanted, name)
        if value is not None and value != row.facts.get(name, [] if name == "instruments" else None):
            values["facts"][name] = value
            edited.add(f"facts.{name}")
    if wanted.prompts is not None:
        values["prompts"] = edited_prompts(wanted.prompts, row.prompts)
        edited |= {"prompts"} if values["prompts"] != row.prompts else set()
    if values["facts"] != row.facts:
        values["prompts"] = unchecked(values["prompts"])
    values["edited_fields"] = sorted(edited)
    if wanted.remark is not None:
        values["remark"] = wanted.remark
    author = Author(changes.EDITED, reviewer)
    return row, author.batch_id if changes.apply(session, row, values, author) else ""


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
    author = Author(changes.REVIEWED, decision.reviewer, decision.automatic)
    changed = sum(_decide(session, row, decision, author) for row in rows.values())
    return Reviewed(changed, len(rows) - changed, author.batch_id)


def review_all(session: Session, which: ClipFilter, decision: Decision) -> Reviewed:
    """Decide about every clip that matches, on whichever page it is."""
    author, seen, changed = Author(changes.REVIEWED, decision.reviewer, decision.automatic), 0, 0
    for rows in _chunks(session, *which.conditions()):
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
    values = {"verdict": decision.verdict, "reviewer": decision.reviewer, "automatic": decision.automatic}
    if decision.verdict == OPEN:
        values |= {"reviewer": "", "automatic": False}
    if row.verdict == decision.verdict and row.automatic == values["automatic"]:
        values = {}
    if decision.remark:
        values["remark"] = decision.remark
    return changes.apply(session, row, values, author)


def undo(session: Session, batch_id: str, reviewer: str) -> tuple[Reviewed, list[str]]:
    """Take back a batch of edits or verdicts: what became of it, and the ids of the clips taken back.

    Clips that were changed since stay as they are, and count as unchanged. NotFound for an unknown batch;
    FailedPrecondition for the pipeline's own changes.
    """
    author, found, taken_back = Author(changes.UNDONE, reviewer), 0, list[str]()
    for batch in _batch(session, batch_id):
        found += len(batch)
        taken_back += [
            row.clip_id
            for change, row in batch
            if row.revision == change.revision and changes.apply(session, row, change.before, author)
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
