"""What a verdict makes of a clip: one opinion decides, or two that agree, or a curator who settles it.

Nothing here touches the database. A clip's standing is everything about it that people's verdicts decide.
"""

from dataclasses import dataclass, fields, replace

from luthier.curation.v1.curation_pb2 import Opinion, Skip
from luthier_curation.tables import NEVER, OPEN, REASON_NUMBERS, VERDICT_NAMES, VERDICT_NUMBERS, ClipValues


@dataclass(frozen=True)
class Decision:
    """A verdict, who gives it, and whether a rule did. `rating` 1 to 5, 0 = none; an empty remark leaves the remark as
    it is. `settle` = it holds whatever the opinions say."""

    verdict: str
    reviewer: str
    automatic: bool = False
    remark: str = ""
    reason: str = ""
    rating: int = 0
    settle: bool = False


@dataclass(frozen=True)
class Standing:
    """What is decided about a clip, by whose opinions, and who wants to judge it later (both by name). The columns of
    `ClipRow` say what each means."""

    verdict: str = OPEN
    reviewer: str = ""
    automatic: bool = False
    remark: str = ""
    reason: str = ""
    rating: int = 0
    conflict: bool = False
    settled: bool = False
    skipped_at_ms: int = NEVER
    opinions: tuple[Opinion, ...] = ()
    skips: tuple[Skip, ...] = ()


def decided(before: Standing, decision: Decision, opinions_per_clip: int, at_ms: int) -> Standing:
    """A clip's standing after a decision; the same object where it changes nothing.

    A rule never overrules a person; a person may confirm what a rule decided, whose remark then goes. Where one
    opinion is enough the newest decides, and it alone is kept. Where two are asked for a clip is open until it has
    them; it is in conflict while they differ and nobody has settled it.
    """
    if decision.automatic:
        after = _by_rule(before, decision)
    elif decision.verdict == OPEN:
        after = _reopened(before, decision, opinions_per_clip)
    elif decision.settle:
        after = replace(_told(before, decision), settled=True, conflict=False, skipped_at_ms=NEVER, skips=())
    else:
        after = _with_opinion(before, decision, opinions_per_clip, at_ms)
    return before if after == before else after


def _by_rule(before: Standing, decision: Decision) -> Standing:
    if before.opinions or before.settled or (before.verdict != OPEN and not before.automatic):
        return before
    if decision.verdict == OPEN:
        return _open(before, remark=decision.remark or before.remark)
    if before.verdict == decision.verdict:
        return replace(before, remark=decision.remark or before.remark)
    return replace(_told(before, decision), automatic=True, skipped_at_ms=NEVER, skips=())


def _told(before: Standing, decision: Decision) -> Standing:
    """The verdict as the decision gives it; what it leaves unsaid stays, if the verdict is the same."""
    same = before.verdict == decision.verdict
    machine = before.automatic and not decision.automatic
    return replace(
        before,
        verdict=decision.verdict,
        reviewer=decision.reviewer,
        automatic=False,
        remark=decision.remark or ("" if machine else before.remark),
        reason=decision.reason or (before.reason if same else ""),
        rating=decision.rating or (before.rating if same else 0),
    )


def _open(before: Standing, remark: str) -> Standing:
    """Open, with the opinions that there are; who wants to judge it later still does."""
    skips = before.skips if before.verdict == OPEN else ()
    return with_skips(Standing(remark=remark, opinions=before.opinions), skips)


def with_skips(before: Standing, skips: tuple[Skip, ...]) -> Standing:
    """The same with these skips."""
    newest = max((skip.at.ToMilliseconds() for skip in skips), default=NEVER)
    return replace(before, skips=skips, skipped_at_ms=newest)


def skipped(before: Standing, reviewer: str, at_ms: int) -> Standing:
    """The standing of an open clip which a reviewer wants to judge later."""
    skip = Skip(reviewer=reviewer)
    skip.at.FromMilliseconds(at_ms)
    others = [item for item in before.skips if item.reviewer != reviewer]
    return with_skips(before, tuple(sorted([*others, skip], key=lambda item: item.reviewer)))


def _reopened(before: Standing, decision: Decision, opinions_per_clip: int) -> Standing:
    """Where two opinions are asked for, reopening withdraws the reviewer's own; else, and by who settles, all."""
    remark = decision.remark or ("" if before.automatic else before.remark)
    if opinions_per_clip == 1 or decision.settle:
        return Standing(remark=remark)
    left = tuple(opinion for opinion in before.opinions if opinion.reviewer != decision.reviewer)
    if before.settled:
        return replace(before, opinions=left, remark=remark)
    return _weighed(replace(before, opinions=left, remark=remark), before.skips, opinions_per_clip)


def _with_opinion(before: Standing, decision: Decision, opinions_per_clip: int, at_ms: int) -> Standing:
    same = before.verdict == decision.verdict and not before.automatic
    alone = opinions_per_clip == 1 and not before.settled
    name = before.reviewer if alone and same else decision.reviewer  # who says the same again adds to it
    known = next((opinion for opinion in before.opinions if opinion.reviewer == name), None)
    opinion = _opinion(known, name, decision, at_ms)
    others = () if alone else tuple(item for item in before.opinions if item.reviewer != name)
    opinions = tuple(sorted((*others, opinion), key=lambda item: item.reviewer))
    if opinion is known and opinions == before.opinions and (same or not alone):
        return before
    if before.settled:
        return replace(before, opinions=opinions)
    told = replace(_told(before, decision), reviewer=name, opinions=opinions, conflict=False)
    skips = tuple(skip for skip in before.skips if skip.reviewer != name)
    return with_skips(told, ()) if alone else _weighed(told, skips, opinions_per_clip)


def _opinion(known: Opinion | None, name: str, decision: Decision, at_ms: int) -> Opinion:
    """The reviewer's opinion now; the one that is known where nothing in it is new."""
    same = known is not None and VERDICT_NAMES[known.verdict] == decision.verdict
    opinion = Opinion(
        reviewer=name,
        verdict=VERDICT_NUMBERS[decision.verdict],
        reason=REASON_NUMBERS[decision.reason] or (known.reason if same and known else REASON_NUMBERS[""]),
        rating=decision.rating or (known.rating if same and known else 0),
        remark=decision.remark or (known.remark if known else ""),
    )
    opinion.at.FromMilliseconds(at_ms)
    if known is None:
        return opinion
    then = Opinion()
    then.CopyFrom(opinion)
    then.at.CopyFrom(known.at)
    return known if then == known else opinion


def _weighed(given: Standing, skips: tuple[Skip, ...], opinions_per_clip: int) -> Standing:
    """What the opinions of a clip decide together; while it is open, those who want to judge it later still do."""
    found = {VERDICT_NAMES[opinion.verdict] for opinion in given.opinions}
    if len(given.opinions) < opinions_per_clip:
        return with_skips(_open(given, given.remark), skips)
    if len(found) > 1:
        return with_skips(replace(_open(given, given.remark), conflict=True), skips)
    newest = max(given.opinions, key=lambda opinion: opinion.at.ToMilliseconds())
    return replace(given, verdict=found.pop(), reviewer=newest.reviewer, automatic=False, conflict=False, skips=(),
                   skipped_at_ms=NEVER)  # fmt: skip


def difference(before: Standing, after: Standing) -> tuple[ClipValues, ClipValues]:
    """What changed, before and after, as history keeps it."""
    names = [item.name for item in fields(Standing) if getattr(before, item.name) != getattr(after, item.name)]
    return _values(before, names), _values(after, names)


def _values(standing: Standing, names: list[str]) -> ClipValues:
    found = {name: getattr(standing, name) for name in names}
    found |= {name: list(found[name]) for name in ("opinions", "skips") if name in found}
    return ClipValues(**found)
