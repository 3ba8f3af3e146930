"""Verdicts that people gave in another tool, taken over under their own names."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.clips import IMPORTED, Author, change, edited_prompts
from luthier_curation.listing import opinions_per_clip
from luthier_curation.reviews import standing_of
from luthier_curation.tables import REASON_NAMES, VERDICT_NAMES, ClipRow, ClipValues
from luthier_curation.verdicts import Decision, decided, difference


@dataclass(frozen=True)
class Imported:
    """Clips that changed, opinions that were there already, ids that no clip has, and the batch to undo it by."""

    changed: int
    unchanged: int
    unknown: list[str]
    batch_id: str


def take_over(session: Session, opinions: Sequence[pb.ImportedOpinion], imported_by: str) -> Imported:
    """Give each clip the opinions of its reviewers, in their order, as if each had judged it here; prompts as somebody
    wrote them there are a person's edit. One revision of each clip; history names who imported them."""
    author, now = Author(IMPORTED, imported_by), time.time_ns() // 1_000_000
    of_clip: dict[str, list[pb.ImportedOpinion]] = {}
    for item in opinions:
        of_clip.setdefault(item.clip_id, []).append(item)
    query = select(ClipRow).where(ClipRow.clip_id.in_(of_clip)).order_by(ClipRow.clip_id).with_for_update()
    rows = list(session.scalars(query))
    changed = unchanged = 0
    for row in rows:
        wanted = opinions_per_clip(session, row.collection)
        before = standing = standing_of(row)
        values = ClipValues()
        for item in of_clip[row.clip_id]:
            after = decided(standing, _decision(item.opinion), wanted, now)
            edit = _prompts(row, list(item.prompts))
            unchanged += after is standing and edit is None
            standing, values = after, edit or values
        judged = vars(difference(before, standing)[1])
        values = replace(values, **{name: value for name, value in judged.items() if value is not None})
        changed += change(session, row, values, author)
    unknown = sorted(of_clip.keys() - {row.clip_id for row in rows})
    return Imported(changed, unchanged, unknown, author.batch_id)


def _decision(opinion: pb.Opinion) -> Decision:
    return Decision(
        verdict=VERDICT_NAMES[opinion.verdict],
        reviewer=opinion.reviewer,
        remark=opinion.remark,
        reason=REASON_NAMES[opinion.reason],
        rating=opinion.rating,
    )


def _prompts(row: ClipRow, texts: list[str]) -> ClipValues | None:
    """A clip's prompts as somebody wrote them; None where they are as they were, or were not sent."""
    if not texts or texts == [prompt.text for prompt in row.prompts]:
        return None
    edited = sorted({*row.edited_fields, "prompts"})
    return ClipValues(prompts=edited_prompts(texts, row.prompts), edited_fields=edited)
