"""Several people: who is asked, two opinions of a clip, agreement, what is imported."""

from collections import Counter

import pytest

from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1.curation_pb2 import ClipFilter, ListClipsRequest
from luthier_curation.agreement import kappa
from luthier_curation.curation import Curation
from luthier_curation.datasets import manifest_of
from luthier_curation.splits import Fractions
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import InvalidRequest, NotFound

from .builders import PROMPT, clip

DEMO = ClipFilter(collection="demo")


@pytest.fixture
def ids(curation: Curation) -> list[str]:
    """Six clips of a collection that asks for two opinions."""
    found = curation.upsert("demo", [clip(curation.store, song=song, title=f"{song}") for song in range(6)])[0]
    curation.update_collection("demo", 2)
    return found


def listed(curation: Curation, **which: object) -> set[str]:
    """Ids of the clips that match."""
    request = ListClipsRequest(filter=ClipFilter(collection="demo", **which))  # type: ignore[arg-type]
    return {row.clip_id for row in curation.page(request, 100).clips}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # Cohen's kappa as Wikipedia works it out: 20 and 15 of 50 agree, 0.7 observed, 0.5 by chance
        ((20, 15, 5, 10), 0.4),
        ((45, 15, 15, 25), 0.1304),  # its "same percentages but different numbers"
        ((25, 35, 35, 5), 0.2593),
        ((10, 0, 0, 0), None),  # one verdict only
        ((0, 0, 5, 5), -1.0),
        ((0, 0, 0, 0), None),
    ],
)
def test_kappa_is_cohens(table: tuple[int, int, int, int], expected: float | None) -> None:
    found = kappa(*table)
    assert found == (None if expected is None else pytest.approx(expected, abs=5e-5))


def test_two_who_differ_leave_a_conflict_that_a_curator_settles(curation: Curation, ids: list[str]) -> None:
    curation.review({ids[0]: 0}, Decision(ACCEPTED, "Ada", rating=4))
    assert curation.clip(ids[0]).verdict == OPEN
    curation.review({ids[0]: 0}, Decision(REJECTED, "Bob", reason="voice", remark="hums"))
    row = curation.clip(ids[0])
    assert (row.verdict, row.conflict) == (OPEN, True)
    assert [(o.reviewer, o.verdict, o.rating, o.remark) for o in row.opinions] == [
        ("Ada", pb.VERDICT_ACCEPTED, 4, ""),
        ("Bob", pb.VERDICT_REJECTED, 0, "hums"),
    ]
    assert listed(curation, conflict=True) == {ids[0]}
    first = curation.page(ListClipsRequest(filter=DEMO, order=pb.CLIP_ORDER_NEXT), 1).clips[0]
    assert first.clip_id == ids[0]
    done = curation.review({ids[0]: 0}, Decision(REJECTED, "Cy", settle=True))
    row = curation.clip(ids[0])
    assert (row.verdict, row.reviewer, row.conflict, len(row.opinions)) == (REJECTED, "Cy", False, 2)
    curation.undo(done.batch_id, "Cy")
    assert curation.clip(ids[0]).conflict


def test_of_an_undone_opinion_nothing_is_left(curation: Curation, ids: list[str]) -> None:
    curation.review({ids[0]: 0}, Decision(ACCEPTED, "Ada"))
    done = curation.review({ids[0]: 0}, Decision(ACCEPTED, "Bob"))
    assert curation.clip(ids[0]).verdict == ACCEPTED
    curation.undo(done.batch_id, "Bob")
    row = curation.clip(ids[0])
    assert (row.verdict, [opinion.reviewer for opinion in row.opinions]) == (OPEN, ["Ada"])
    assert listed(curation, reviewer="Bob") == set()


def test_clips_are_shared_out_evenly_two_reviewers_each(curation: Curation, ids: list[str]) -> None:
    answer = curation.assign(pb.AssignClipsRequest(filter=DEMO, reviewers=["Ada", "Bob", "Cy"]))
    assert (answer.clips, list(answer.assigned)) == (6, [4, 4, 4])
    asked = [curation.clip(name).assigned_to for name in ids]
    assert [len(names) for names in asked] == [2] * 6
    assert Counter(name for names in asked for name in names) == {"Ada": 4, "Bob": 4, "Cy": 4}


def test_asking_again_asks_nobody_twice(curation: Curation, ids: list[str]) -> None:
    request = pb.AssignClipsRequest(filter=DEMO, reviewers=["Ada", "Bob"])
    curation.assign(request)
    assert list(curation.assign(request).assigned) == [0, 0]


def test_who_answers_is_asked_no_more_and_is_again_after_an_undo(curation: Curation, ids: list[str]) -> None:
    curation.assign(pb.AssignClipsRequest(filter=DEMO, reviewers=["Ada"], per_clip=1))
    assert listed(curation, assigned_to="Ada") == set(ids)
    done = curation.review({ids[0]: 0}, Decision(ACCEPTED, "Ada"))
    assert listed(curation, assigned_to="Ada") == set(ids[1:])
    curation.undo(done.batch_id, "Ada")
    assert listed(curation, assigned_to="Ada") == set(ids)
    assert curation.clip(ids[0]).opinions == []


def test_what_is_withdrawn_leaves_what_was_answered(curation: Curation, ids: list[str]) -> None:
    curation.assign(pb.AssignClipsRequest(filter=DEMO, reviewers=["Ada"], per_clip=1))
    curation.review({ids[0]: 0}, Decision(ACCEPTED, "Ada"))
    answer = curation.assign(pb.AssignClipsRequest(filter=DEMO, reviewers=["Ada"], withdraw=True))
    assert list(answer.assigned) == [5]
    assert listed(curation, reviewer="Ada") == {ids[0]}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.AssignClipsRequest(reviewers=["Ada"]), "filter.collection"),
        (pb.AssignClipsRequest(filter=DEMO), "reviewers"),
        (pb.AssignClipsRequest(filter=DEMO, reviewers=["Ada", "Ada"]), "reviewers"),
        (pb.AssignClipsRequest(filter=DEMO, reviewers=[" "]), "reviewers[0]"),
        (pb.AssignClipsRequest(filter=DEMO, reviewers=["Ada"], per_clip=2), "per_clip"),
    ],
)
def test_a_bad_assignment_is_refused_by_field(curation: Curation, request_: pb.AssignClipsRequest, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        curation.assign(request_)
    assert field in [name for name, _ in refused.value.violations]


def test_agreement_counts_every_clip_that_two_judged(curation: Curation, ids: list[str]) -> None:
    verdicts = [(ACCEPTED, ACCEPTED), (ACCEPTED, ACCEPTED), (REJECTED, REJECTED), (ACCEPTED, REJECTED)]
    for name, (of_zoe, of_ada) in zip(ids, verdicts, strict=False):
        curation.review({name: 0}, Decision(of_zoe, "zoe"))
        curation.review({name: 0}, Decision(of_ada, "Ada"))
    curation.review({ids[4]: 0}, Decision(ACCEPTED, "zoe"))
    [collection] = curation.list_collections("demo")
    [pair] = collection.agreement.pairs
    assert (pair.reviewer, pair.other, pair.both_accepted, pair.both_rejected) == ("Ada", "zoe", 2, 1)
    assert (pair.only_reviewer_accepted, pair.only_other_accepted) == (0, 1)
    assert collection.agreement.clips == 4
    assert pair.kappa == pytest.approx(0.5)  # observed 3/4; by chance 2/4 * 3/4 + 2/4 * 1/4 = 1/2
    assert collection.agreement.kappa == pytest.approx(0.5)


def test_the_manifest_has_the_agreement_and_who_agreed(curation: Curation, ids: list[str]) -> None:
    for reviewer in ("Ada", "Bob"):
        curation.review(dict.fromkeys(ids[:3], 0), Decision(ACCEPTED, reviewer, rating=5))
        curation.review({ids[3]: 0}, Decision(REJECTED, reviewer))
    export = curation.export("demo", "", Fractions(), "Ada")
    manifest = manifest_of(curation.store, export.entry)
    assert (manifest.agreement.clips, manifest.agreement.kappa) == (4, 1.0)
    assert {(tuple(row.verdict.reviewers), row.verdict.rating) for row in manifest.rows} == {(("Ada", "Bob"), 5)}


def test_a_collection_without_clips_has_nothing_to_decide(curation: Curation) -> None:
    with pytest.raises(NotFound):
        curation.update_collection("nothing", 2)
    with pytest.raises(InvalidRequest, match="opinions_per_clip"):
        curation.update_collection("demo", 3)


# --- import


def imported(clip_id: str, reviewer: str, verdict: pb.Verdict, **more: object) -> pb.ImportedOpinion:
    prompts = more.pop("prompts", ())
    opinion = pb.Opinion(reviewer=reviewer, verdict=verdict, **more)  # type: ignore[arg-type]
    return pb.ImportedOpinion(clip_id=clip_id, opinion=opinion, prompts=prompts)  # type: ignore[arg-type]


def test_imported_opinions_are_their_reviewers_and_history_names_the_importer(
    curation: Curation, ids: list[str]
) -> None:
    opinions = [
        imported(ids[0], "Ada", pb.VERDICT_ACCEPTED, rating=4),
        imported(ids[0], "Bob", pb.VERDICT_ACCEPTED, prompts=["A waltz"]),
        imported(ids[1], "Ada", pb.VERDICT_REJECTED, reason=pb.REJECT_REASON_VOICE, remark="sings"),
        imported("clip-elsewhere", "Ada", pb.VERDICT_ACCEPTED),
    ]
    done = curation.import_opinions(opinions, "Cy")
    assert (done.changed, done.unchanged, done.unknown) == (2, 0, ["clip-elsewhere"])
    row = curation.clip(ids[0])
    assert (row.verdict, row.revision, row.prompts[0].text) == (ACCEPTED, 2, "A waltz")
    newest = curation.history(ids[0])[0]
    assert (newest.kind, newest.who) == ("imported", "Cy")
    again = curation.import_opinions(opinions, "Cy")
    assert (again.changed, again.unchanged) == (0, 3)
    curation.undo(done.batch_id, "Cy")
    row = curation.clip(ids[0])
    assert (row.verdict, row.opinions, row.prompts[0].text) == (OPEN, [], PROMPT)


@pytest.mark.parametrize(
    ("opinion", "field"),
    [
        (imported("c", "Ada", pb.VERDICT_OPEN), "opinions[0].opinion.verdict"),
        (imported("c", "", pb.VERDICT_ACCEPTED), "opinions[0].opinion.reviewer"),
        (imported("c", "Ada", pb.VERDICT_ACCEPTED, rating=9), "opinions[0].opinion.rating"),
        (imported("c", "Ada", pb.VERDICT_ACCEPTED, prompts=[" "]), "opinions[0].prompts[0]"),
    ],
)
def test_a_bad_import_is_refused_by_field(curation: Curation, opinion: pb.ImportedOpinion, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        curation.import_opinions([opinion], "Cy")
    assert field in [name for name, _ in refused.value.violations]
