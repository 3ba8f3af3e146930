"""Who is asked about which clip: a row of `opinions` without a verdict."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import listing
from luthier_curation.tables import NEVER, ClipRow, OpinionRow

CHUNK = 1000
"""clips in a transaction."""


@dataclass(frozen=True)
class Assigned:
    """Clips that were looked at, how many each reviewer was newly asked about, and the last clip."""

    clips: int
    by_reviewer: Counter[str]
    last_clip_id: str


def assign_chunk(
    session: Session, which: pb.ClipFilter, reviewers: Sequence[str], per_clip: int, after: str
) -> Assigned | None:
    """Ask reviewers about the first clips that match behind an id, so that each clip has `per_clip` who were asked or
    have answered; who has the fewest to answer is asked first. None = there are no more clips."""
    ids = _ids(session, which, after)
    if not ids:
        return None
    there: dict[str, set[str]] = {}
    for clip_id, name in session.execute(
        select(OpinionRow.clip_id, OpinionRow.reviewer).where(OpinionRow.clip_id.in_(ids))
    ):
        there.setdefault(clip_id, set()).add(name)
    open_ones = select(OpinionRow.reviewer, func.count()).where(
        OpinionRow.reviewer.in_(reviewers), OpinionRow.verdict == ""
    )
    load = Counter({row[0]: int(row[1]) for row in session.execute(open_ones.group_by(OpinionRow.reviewer))})
    places = {name: place for place, name in enumerate(reviewers)}
    rows, newly = list[dict[str, object]](), Counter[str]()
    for clip_id in ids:
        known = there.get(clip_id, set())
        free = sorted(places.keys() - known, key=lambda name: (load[name], places[name]))
        for name in free[: max(0, per_clip - len(known))]:
            load[name] += 1
            newly[name] += 1
            rows.append({
                "clip_id": clip_id, "reviewer": name, "asked": True, "verdict": "", "reason": "", "rating": 0,
                "remark": "", "at_ms": NEVER,
            })  # fmt: skip
    if rows:
        session.execute(insert(OpinionRow), rows)
    return Assigned(len(ids), newly, ids[-1])


def withdraw_chunk(session: Session, which: pb.ClipFilter, reviewers: Sequence[str], after: str) -> Assigned | None:
    """Ask these reviewers no more about the first clips that match behind an id, where they have not answered."""
    ids = _ids(session, which, after)
    if not ids:
        return None
    waiting = (OpinionRow.clip_id.in_(ids), OpinionRow.reviewer.in_(reviewers), OpinionRow.verdict == "")
    counted = select(OpinionRow.reviewer, func.count()).where(*waiting).group_by(OpinionRow.reviewer)
    withdrawn = Counter({row[0]: int(row[1]) for row in session.execute(counted)})
    session.execute(delete(OpinionRow).where(*waiting).execution_options(synchronize_session=False))
    return Assigned(len(ids), withdrawn, ids[-1])


def _ids(session: Session, which: pb.ClipFilter, after: str) -> list[str]:
    """Ids of the first clips that match behind an id, locked, so that two who assign at once do not ask too many."""
    matching = listing.conditions(session, which)
    query = select(ClipRow.clip_id).where(*matching, ClipRow.clip_id > after).order_by(ClipRow.clip_id)
    return list(session.scalars(query.limit(CHUNK).with_for_update()))
