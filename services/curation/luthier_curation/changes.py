"""Every change of a clip goes through here: one revision more, and a line of history with before and after."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from luthier_curation.content import derived
from luthier_curation.tables import ChangeRow, ClipRow

CREATED, REVISED, EDITED, REVIEWED, UNDONE = "created", "revised", "edited", "reviewed", "undone"
PIPELINE = "pipeline"
CONTENT = frozenset({"source", "facts", "tags", "prompts"})


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def new_batch_id() -> str:
    """Names the changes that one call makes, so that they can be undone together."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Author:
    """Who changes what sort of thing, in which batch."""

    kind: str
    who: str
    automatic: bool = False
    batch_id: str = field(default_factory=new_batch_id)


def apply(session: Session, row: ClipRow, values: dict[str, Any], author: Author) -> bool:
    """Give the clip these values; False when it has them all already and nothing was written."""
    before = {name: getattr(row, name) for name in values if getattr(row, name) != values[name]}
    if not before:
        return False
    after = {name: values[name] for name in before}
    for name, value in after.items():
        setattr(row, name, value)
    if CONTENT & after.keys():
        for name, value in derived(row.source, row.facts, row.tags, row.prompts).items():
            setattr(row, name, value)
    row.revision += 1
    row.updated_at_ms = now_ms()
    record(session, row, before, after, author)
    return True


def record(session: Session, row: ClipRow, before: dict[str, Any], after: dict[str, Any], author: Author) -> None:
    """Write a line of history for the revision that the row now has."""
    session.add(
        ChangeRow(
            clip_id=row.clip_id,
            revision=row.revision,
            batch_id=author.batch_id,
            kind=author.kind,
            who=author.who,
            automatic=author.automatic,
            at_ms=row.updated_at_ms,
            before=before,
            after=after,
        )
    )
