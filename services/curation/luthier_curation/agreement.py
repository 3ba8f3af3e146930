"""How far reviewers agree: Cohen's kappa of every two, over the clips that both judged.

Cohen 1960, "A coefficient of agreement for nominal scales"; for more than two reviewers the mean of the pairs, as in
Light 1971, each weighted by its clips, because reviewers share few of them.
"""

from collections import defaultdict

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from luthier.curation.v1.curation_pb2 import Agreement, PairAgreement
from luthier_curation.tables import ACCEPTED, REJECTED, ClipRow, OpinionRow


def kappa(both_accepted: int, both_rejected: int, only_first: int, only_second: int) -> float | None:
    """Agreement beyond chance of two reviewers, -1 to 1, from how many clips each combination of verdicts has; None
    where there are none, or chance agrees always because each used one verdict only."""
    clips = both_accepted + both_rejected + only_first + only_second
    if not clips:
        return None
    observed = (both_accepted + both_rejected) / clips
    first, second = (both_accepted + only_first) / clips, (both_accepted + only_second) / clips
    by_chance = first * second + (1 - first) * (1 - second)
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def agreement(session: Session, collection: str) -> Agreement:
    """How far the reviewers of a collection agree, whatever the clips' verdicts are."""
    one, other = aliased(OpinionRow), aliased(OpinionRow)
    pairs = (
        select(one.reviewer, other.reviewer, one.verdict, other.verdict, func.count())
        .join(other, (other.clip_id == one.clip_id) & (one.reviewer < other.reviewer))
        .join(ClipRow, ClipRow.clip_id == one.clip_id)
        .where(ClipRow.collection == collection, one.verdict != "", other.verdict != "")
        .group_by(one.reviewer, other.reviewer, one.verdict, other.verdict)
    )
    found: dict[tuple[str, str], dict[tuple[str, str], int]] = defaultdict(dict)
    for first, second, verdict, others, clips in session.execute(pairs):
        swapped = second < first  # the database's alphabet is not Python's
        key, verdicts = ((second, first), (others, verdict)) if swapped else ((first, second), (verdict, others))
        found[key][verdicts] = clips
    judged = select(OpinionRow.clip_id).join(ClipRow, ClipRow.clip_id == OpinionRow.clip_id)
    judged = judged.where(ClipRow.collection == collection, OpinionRow.verdict != "")
    twice = judged.group_by(OpinionRow.clip_id).having(func.count() > 1).subquery()
    result = Agreement(clips=session.scalar(select(func.count()).select_from(twice)) or 0)
    result.pairs.extend(_pair(key, counts) for key, counts in sorted(found.items()))
    known = [(pair.kappa, _clips(pair)) for pair in result.pairs if pair.HasField("kappa")]
    if known:
        result.kappa = sum(value * clips for value, clips in known) / sum(clips for _, clips in known)
    return result


def _pair(names: tuple[str, str], counts: dict[tuple[str, str], int]) -> PairAgreement:
    pair = PairAgreement(
        reviewer=names[0],
        other=names[1],
        both_accepted=counts.get((ACCEPTED, ACCEPTED), 0),
        both_rejected=counts.get((REJECTED, REJECTED), 0),
        only_reviewer_accepted=counts.get((ACCEPTED, REJECTED), 0),
        only_other_accepted=counts.get((REJECTED, ACCEPTED), 0),
    )
    value = kappa(pair.both_accepted, pair.both_rejected, pair.only_reviewer_accepted, pair.only_other_accepted)
    if value is not None:
        pair.kappa = value
    return pair


def _clips(pair: PairAgreement) -> int:
    return pair.both_accepted + pair.both_rejected + pair.only_reviewer_accepted + pair.only_other_accepted
