"""What a verdict makes of a clip: one opinion, two, a curator's word, a rule's."""

import pytest

from luthier.curation.v1.curation_pb2 import REJECT_REASON_BAD_CUT, VERDICT_ACCEPTED, VERDICT_REJECTED, Opinion
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED
from luthier_curation.verdicts import Decision, Standing, decided

RULE = Decision(ACCEPTED, "accept checked", automatic=True, remark="every prompt passed")


def judged(*decisions: Decision, opinions_per_clip: int = 1) -> Standing:
    """The standing after these decisions, a millisecond apart."""
    standing = Standing()
    for at_ms, decision in enumerate(decisions, 1):
        standing = decided(standing, decision, opinions_per_clip, at_ms)
    return standing


def names(standing: Standing) -> list[tuple[str, int]]:
    return [(opinion.reviewer, opinion.verdict) for opinion in standing.opinions]


def test_one_opinion_decides_and_the_newest_alone_is_kept() -> None:
    standing = judged(Decision(ACCEPTED, "Ada", rating=4), Decision(REJECTED, "Bob", reason="artefacts"))
    assert (standing.verdict, standing.reviewer, standing.reason, standing.rating) == (REJECTED, "Bob", "artefacts", 0)
    assert names(standing) == [("Bob", VERDICT_REJECTED)]


def test_the_same_verdict_again_adds_what_it_says_and_leaves_the_rest() -> None:
    standing = judged(Decision(REJECTED, "Ada", reason="voice"), Decision(REJECTED, "Bob", rating=2))
    assert (standing.reviewer, standing.reason, standing.rating) == ("Ada", "voice", 2)


def test_the_same_verdict_that_says_nothing_new_is_the_same_object() -> None:
    standing = judged(Decision(ACCEPTED, "Ada"))
    assert decided(standing, Decision(ACCEPTED, "Bob"), 1, 9) is standing


def test_a_rules_remark_does_not_survive_a_persons_verdict() -> None:
    assert judged(RULE).remark == "every prompt passed"
    assert judged(RULE, Decision(REJECTED, "Ada")).remark == ""
    assert judged(RULE, Decision(REJECTED, "Ada", remark="clicks")).remark == "clicks"


def test_a_rule_never_overrules_an_opinion() -> None:
    waiting = judged(Decision(REJECTED, "Ada"), opinions_per_clip=2)
    assert decided(waiting, RULE, 2, 9) is waiting


@pytest.mark.parametrize(
    ("second", "verdict", "conflict"), [(ACCEPTED, ACCEPTED, False), (REJECTED, OPEN, True)]
)  # fmt: skip
def test_of_two_opinions_the_first_decides_nothing(second: str, verdict: str, conflict: bool) -> None:
    first = judged(Decision(ACCEPTED, "Ada"), opinions_per_clip=2)
    both = judged(Decision(ACCEPTED, "Ada"), Decision(second, "Bob"), opinions_per_clip=2)
    assert (first.verdict, first.conflict, names(first)) == (OPEN, False, [("Ada", VERDICT_ACCEPTED)])
    assert (both.verdict, both.conflict, len(both.opinions)) == (verdict, conflict, 2)


def test_who_judges_twice_has_one_opinion() -> None:
    standing = judged(Decision(ACCEPTED, "Ada"), Decision(REJECTED, "Ada"), opinions_per_clip=2)
    assert (standing.verdict, names(standing)) == (OPEN, [("Ada", VERDICT_REJECTED)])


def test_who_comes_round_ends_the_conflict() -> None:
    standing = judged(
        Decision(ACCEPTED, "Ada"), Decision(REJECTED, "Bob"), Decision(REJECTED, "Ada"), opinions_per_clip=2
    )
    assert (standing.verdict, standing.conflict) == (REJECTED, False)


def test_a_curator_settles_and_the_opinions_stay_as_they_were() -> None:
    settle = Decision(ACCEPTED, "Cy", settle=True)
    standing = judged(Decision(ACCEPTED, "Ada"), Decision(REJECTED, "Bob"), settle, opinions_per_clip=2)
    assert (standing.verdict, standing.reviewer, standing.conflict) == (ACCEPTED, "Cy", False)
    assert names(standing) == [("Ada", VERDICT_ACCEPTED), ("Bob", VERDICT_REJECTED)]
    later = decided(standing, Decision(REJECTED, "Dee"), 2, 9)
    assert (later.verdict, later.conflict, len(later.opinions)) == (ACCEPTED, False, 3)


def test_reopening_withdraws_ones_own_opinion_where_two_are_asked_for() -> None:
    agreed = (Decision(ACCEPTED, "Ada"), Decision(ACCEPTED, "Bob"))
    assert names(judged(*agreed, Decision(OPEN, "Ada"), opinions_per_clip=2)) == [("Bob", VERDICT_ACCEPTED)]
    assert judged(*agreed, Decision(OPEN, "Cy", settle=True), opinions_per_clip=2) == Standing()
    assert judged(Decision(ACCEPTED, "Ada", rating=3), Decision(OPEN, "Bob")) == Standing()


def test_an_opinion_has_what_was_said_and_when() -> None:
    [opinion] = judged(Decision(REJECTED, "Ada", reason="bad_cut", rating=2, remark="ends in a word")).opinions
    expected = Opinion(
        reviewer="Ada", verdict=VERDICT_REJECTED, reason=REJECT_REASON_BAD_CUT, rating=2, remark="ends in a word"
    )
    expected.at.FromMilliseconds(1)
    assert opinion == expected
