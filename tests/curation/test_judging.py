"""Judging: orders, filters, reasons and ratings, what is skipped, what is undone; on both databases."""

import itertools
import random
from collections.abc import Callable
from typing import Any, cast

import pytest
from sqlalchemy import Table, select

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1.curation_pb2 import ClipFilter, ListClipsRequest
from luthier_curation.curation import Curation
from luthier_curation.listing import Count
from luthier_curation.reviews import Edit
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED, VERDICTS, ClipRow
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import InvalidRequest, NotFound

from .builders import clip, fingerprint


def titles(curation: Curation, size: int = 100, **request: object) -> list[str]:
    """Titles of every page of a list, pages of `size` clips."""
    asked = ListClipsRequest(**request)  # type: ignore[arg-type]
    found = list[str]()
    while True:
        page = curation.page(asked, size)
        found += [row.source.song.title for row in page.clips]
        if not page.next_token:
            return found
        asked.page_token = page.next_token


def varied(curation: Curation, title: str, **more: object) -> pb.NewClip:
    """A clip of its own song."""
    return clip(curation.store, song=title, title=title, **more)  # type: ignore[arg-type]


@pytest.fixture
def ids(curation: Curation) -> dict[str, str]:
    """Ids by title of clips that differ in what lists are sorted and filtered by."""
    plain = varied(curation, "plain", genre="rock")
    octave = varied(curation, "octave", genre="slow blues", artist="Beyoncé")
    octave.facts.estimated_tempo.tempo_bpm = 60  # half of 120: right by Accuracy 2
    off = varied(curation, "off", passed=False)
    off.facts.estimated_tempo.tempo_bpm = 100
    off.facts.estimated_key.CopyFrom(common.KeyFact(tonic="A", mode=common.MODE_MINOR))  # the relative: MIREX 0.3
    quiet = varied(curation, "quiet")
    quiet.facts.loudness_lufs, quiet.facts.duration_s = -40, 9
    silent = varied(curation, "silent", prompts=())
    silent.facts.ClearField("loudness_lufs")
    silent.facts.key.CopyFrom(common.KeyFact(tonic="Eb", mode=common.MODE_MINOR, source=common.FACT_SOURCE_PERSON))
    silent.source.related_fingerprints.append(fingerprint("plain"))
    silent.tags[0].source = "lastfm"
    clips = [plain, octave, off, quiet, silent]
    upserted = curation.upsert("demo", clips)[0]
    return {sent.source.song.title: name for sent, name in zip(clips, upserted, strict=True)}


DEMO = ClipFilter(collection="demo")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (pb.CLIP_ORDER_DISAGREEMENT, ["off", "octave"]),  # 1 + 0.7, 0.5
        (pb.CLIP_ORDER_LENGTH, ["quiet"]),
        (pb.CLIP_ORDER_NEXT, ["off", "octave"]),
    ],
)
def test_an_order_begins_with(curation: Curation, ids: dict[str, str], order: int, expected: list[str]) -> None:
    found = titles(curation, filter=DEMO, order=order)
    assert found[: len(expected)] == expected
    assert sorted(found) == sorted(ids)


def test_loudness_has_silence_at_its_end(curation: Curation, ids: dict[str, str]) -> None:
    assert titles(curation, filter=DEMO, order=pb.CLIP_ORDER_LOUDNESS)[-2:] == ["quiet", "silent"]
    assert titles(curation, filter=DEMO, order=pb.CLIP_ORDER_LOUDNESS, reverse=True)[:2] == ["silent", "quiet"]


def test_the_newest_clip_comes_first(curation: Curation, ids: dict[str, str]) -> None:
    with curation.repository.engine.begin() as connection:
        table = cast(Table, ClipRow.__table__)
        connection.execute(table.update().values(created_at_ms=1000))
        connection.execute(table.update().where(table.c.clip_id == ids["quiet"]).values(created_at_ms=2000))
    assert titles(curation, filter=DEMO, order=pb.CLIP_ORDER_NEWEST)[0] == "quiet"


@pytest.mark.parametrize("collection", ["demo", ""])
def test_pages_of_every_order_cover_every_clip_once_forwards_and_back(curation: Curation, collection: str) -> None:
    random.seed(7)
    clips = [varied(curation, f"{number:02}") for number in range(23)]
    for sent in clips:
        sent.facts.loudness_lufs = random.choice([-30, -20])  # ties are many
        sent.facts.duration_s = random.choice([2, 3, 4])
        sent.facts.estimated_tempo.tempo_bpm = random.choice([60, 100, 120])
    ids = curation.upsert("demo", clips)[0]
    for name in ids[::3]:
        curation.review({name: 0}, Decision(random.choice(VERDICTS), "Ada"))
    for order, reverse in itertools.product(pb.ClipOrder.keys(), (False, True)):
        request = ListClipsRequest(filter=ClipFilter(collection=collection), order=order, reverse=reverse)
        whole = [row.clip_id for row in curation.page(request, 100).clips]
        pages = []
        while True:
            page = curation.page(request, 4)
            pages.append([row.clip_id for row in page.clips])
            if not page.next_token:
                break
            request.page_token = page.next_token
        assert [name for each in pages for name in each] == whole
        assert sorted(whole) == sorted(ids)
        request.page_token = page.previous_token
        assert [row.clip_id for row in curation.page(request, 4).clips] == pages[-2]


def test_a_token_of_another_order_is_refused(curation: Curation, ids: dict[str, str]) -> None:
    token = curation.page(ListClipsRequest(filter=DEMO), 2).next_token
    with pytest.raises(InvalidRequest, match="page_token"):
        curation.page(ListClipsRequest(filter=DEMO, order=pb.CLIP_ORDER_LENGTH, page_token=token), 2)


FOUND: list[tuple[dict[str, object], list[str]]] = [
    ({"tonic": "Eb"}, ["silent"]),
    ({"mode": common.MODE_MAJOR}, ["octave", "off", "plain", "quiet"]),
    ({"tag": "Slow Blues"}, ["octave"]),
    ({"tag": "slow"}, []),
    ({"tag_source": "lastfm"}, ["silent"]),
    ({"artist": "beyonce"}, ["octave"]),
    ({"artist": "beyon"}, []),
    ({"composer": "grammar"}, ["octave", "off", "plain", "quiet"]),
    ({"fact_source": common.FACT_SOURCE_PERSON}, ["silent"]),
    ({"disagreement": pb.ESTIMATOR_DISAGREEMENT_ANY}, ["octave", "off"]),
    ({"disagreement": pb.ESTIMATOR_DISAGREEMENT_KEY}, ["off"]),
    ({"disagreement": pb.ESTIMATOR_DISAGREEMENT_TEMPO}, ["octave", "off"]),
    ({"disagreement": pb.ESTIMATOR_DISAGREEMENT_NONE}, ["plain", "quiet", "silent"]),
    ({"near_duplicates": True}, ["silent"]),
    ({"near_duplicates": False}, ["octave", "off", "plain", "quiet"]),
    ({"related_to": fingerprint("plain")}, ["plain", "silent"]),
    ({"text": "BEYONCE"}, ["octave"]),
    ({"text": "beyonce\u0301 blues"}, ["octave"]),
    ({"text": "blu*"}, ["octave"]),
    ({"text": "blu"}, []),
    ({"text": "lues*"}, []),
    ({"text": "!?"}, []),
    ({"text": "' & | ! :* \" OR NEAR("}, []),
]


def test_filters_find(curation: Curation, ids: dict[str, str]) -> None:
    asked = [(ClipFilter(collection="demo", **which), expected) for which, expected in FOUND]  # type: ignore[arg-type]
    assert [sorted(titles(curation, filter=which)) for which, _ in asked] == [expected for _, expected in asked]
    assert [curation.count(which).clips for which, _ in asked] == [len(expected) for _, expected in asked]


def test_what_a_person_corrects_is_found_as_it_is_now(curation: Curation, ids: dict[str, str]) -> None:
    key = common.KeyFact(tonic="F#", mode=common.MODE_MINOR, source=common.FACT_SOURCE_PERSON)
    _, batch = curation.edit(ids["plain"], 1, "Ada", Edit(key=key, prompts=["A polka"]))
    assert titles(curation, filter=ClipFilter(collection="demo", tonic="F#")) == ["plain"]
    assert titles(curation, filter=ClipFilter(text="polka")) == ["plain"]
    curation.undo(batch, "Ada")
    assert titles(curation, filter=ClipFilter(text="polka")) == []
    assert titles(curation, filter=ClipFilter(collection="demo", tonic="F#")) == []


def test_counting_ends_at_the_bound_and_says_so(curation: Curation, ids: dict[str, str]) -> None:
    major = ClipFilter(collection="demo", mode=common.MODE_MAJOR)
    assert curation.count(major, 3) == Count(3, more=True)
    assert curation.count(major, 4) == Count(4)
    assert curation.count(DEMO, 1) == Count(5)  # counted already
    assert str(Count(1000, more=True)) == "1,000+"


def test_verdicts_of_clips_stay_counted(curation: Curation, ids: dict[str, str]) -> None:
    """The database's triggers against the clips themselves, after every kind of change."""
    done = curation.review_all(ClipFilter(collection="demo", text="rock"), Decision(ACCEPTED, "Ada"))
    curation.review({ids["off"]: 0}, Decision(REJECTED, "Ada"))
    curation.upsert("other", [varied(curation, "elsewhere")])
    curation.undo(done.batch_id, "Ada")
    curation.review({ids["plain"]: 0, ids["quiet"]: 0}, Decision(ACCEPTED, "Ada"))
    rows = curation.page(ListClipsRequest(filter=DEMO), 100).clips
    counts = {verdict: Count(sum(row.verdict == verdict for row in rows)) for verdict in VERDICTS}
    assert curation.verdict_counts(DEMO) == counts
    assert counts == {OPEN: Count(2), ACCEPTED: Count(2), REJECTED: Count(1)}
    with curation.repository.engine.begin() as connection:
        connection.execute(cast(Table, ClipRow.__table__).delete().where(ClipRow.clip_id == ids["off"]))
    assert curation.verdict_counts(DEMO)[REJECTED] == Count(0)


NEXT: dict[str, Any] = {
    "filter": ClipFilter(collection="demo", verdict=pb.VERDICT_OPEN), "order": pb.CLIP_ORDER_NEXT,
}  # fmt: skip


def test_what_is_skipped_comes_back_behind_the_others_the_longest_ago_first(
    curation: Curation, ids: dict[str, str], ticking: Callable[[], int]
) -> None:
    curation.skip([ids["off"]], "Ada")
    curation.skip([ids["octave"]], "Ada")
    assert titles(curation, **NEXT, for_reviewer="Ada")[-2:] == ["off", "octave"]
    curation.review_all(ClipFilter(collection="demo", text="plain"), Decision(ACCEPTED, "Ada"))
    assert titles(curation, **NEXT, for_reviewer="Ada")[-2:] == ["off", "octave"]


@pytest.mark.parametrize("other", ["Bob", ""])
def test_others_see_what_somebody_skipped_where_it_was(curation: Curation, ids: dict[str, str], other: str) -> None:
    before = titles(curation, **NEXT, for_reviewer=other)
    curation.skip([ids["off"]], "Ada")
    assert titles(curation, **NEXT, for_reviewer=other) == before


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_pages_pass_from_what_is_new_to_what_was_skipped(
    curation: Curation, ids: dict[str, str], ticking: Callable[[], int], size: int, reverse: bool
) -> None:
    for title in ("off", "octave", "quiet"):
        curation.skip([ids[title]], "Ada")
    whole = titles(curation, **NEXT, for_reviewer="Ada", reverse=reverse)
    assert sorted(whole) == sorted(ids)
    assert titles(curation, size, **NEXT, for_reviewer="Ada", reverse=reverse) == whole
    assert (whole[::-1] if reverse else whole)[-3:] == ["off", "octave", "quiet"]


def test_a_page_before_is_found_among_what_was_skipped(
    curation: Curation, ids: dict[str, str], ticking: Callable[[], int]
) -> None:
    for title in ("off", "octave"):
        curation.skip([ids[title]], "Ada")
    whole = titles(curation, **NEXT, for_reviewer="Ada")
    asked = ListClipsRequest(**NEXT, for_reviewer="Ada")
    for _ in range(2):
        asked.page_token = curation.page(asked, 2).next_token
    asked.page_token = curation.page(asked, 2).previous_token
    assert [row.source.song.title for row in curation.page(asked, 2).clips] == whole[2:4]


def test_an_opinion_ends_ones_own_skip_and_a_verdict_everybodys(curation: Curation, ids: dict[str, str]) -> None:
    curation.update_collection("demo", 2)
    for name in ("Ada", "Bob", "Cy"):
        curation.skip([ids["off"]], name)
    curation.review({ids["off"]: 0}, Decision(ACCEPTED, "Ada"))
    row = curation.clip(ids["off"])
    assert (row.verdict, [skip.reviewer for skip in row.skips]) == (OPEN, ["Bob", "Cy"])
    curation.review({ids["off"]: 0}, Decision(ACCEPTED, "Bob"))
    row = curation.clip(ids["off"])
    assert (row.verdict, row.skips, row.skipped_at_ms) == (ACCEPTED, [], 0)


def test_a_skip_is_in_the_history_and_undone(curation: Curation, ids: dict[str, str]) -> None:
    curation.skip([ids["off"]], "Bob")
    done = curation.skip([ids["off"]], "Ada")
    assert curation.history(ids["off"])[0].kind == "skipped"
    undone = curation.undo(done.batch_id, "Ada")[0]
    assert titles(curation, **NEXT, for_reviewer="Ada")[0] == "off"
    assert titles(curation, **NEXT, for_reviewer="Bob")[-1] == "off"
    curation.undo(undone.batch_id, "Ada")
    assert titles(curation, **NEXT, for_reviewer="Ada")[-1] == "off"


def test_what_is_judged_is_not_skipped(curation: Curation, ids: dict[str, str]) -> None:
    curation.review({ids["off"]: 0}, Decision(ACCEPTED, "Ada"))
    done = curation.skip([ids["off"], ids["plain"]], "Ada")
    assert (done.changed, done.unchanged) == (1, 1)
    with pytest.raises(NotFound, match="clip-none"):
        curation.skip(["clip-none"], "Ada")


def test_a_reason_a_rating_and_a_note_are_kept_found_and_undone(curation: Curation, ids: dict[str, str]) -> None:
    done = curation.review({ids["off"]: 1}, Decision(REJECTED, "Ada", reason="artefacts", rating=2, remark="clicks"))
    row = curation.clip(ids["off"])
    assert (row.reason, row.rating, row.remark) == ("artefacts", 2, "clicks")
    of_reason = ClipFilter(collection="demo", reason=pb.REJECT_REASON_ARTEFACTS)
    assert titles(curation, filter=of_reason) == ["off"]
    assert titles(curation, filter=ClipFilter(collection="demo", min_rating=2)) == ["off"]
    assert titles(curation, filter=ClipFilter(collection="demo", min_rating=3)) == []
    assert titles(curation, filter=ClipFilter(reviewer="Ada")) == ["off"]
    curation.undo(done.batch_id, "Bob")
    row = curation.clip(ids["off"])
    assert (row.verdict, row.reason, row.rating, row.remark, row.opinions) == (OPEN, "", 0, "", [])
    assert titles(curation, filter=ClipFilter(reviewer="Ada")) == []


@pytest.mark.parametrize(
    ("decision", "field"),
    [
        (Decision(ACCEPTED, "Ada", reason="artefacts"), "reason"),
        (Decision(REJECTED, "Ada", reason="because"), "reason"),
        (Decision(REJECTED, "Ada", rating=6), "rating"),
        (Decision(OPEN, "Ada", rating=3), "rating"),
        (Decision(ACCEPTED, "rule", automatic=True, settle=True), "settle"),
    ],
)
def test_a_bad_decision_is_refused_by_field(
    curation: Curation, ids: dict[str, str], decision: Decision, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        curation.review({ids["off"]: 0}, decision)
    assert field in [name for name, _ in refused.value.violations]


def test_new_audio_opens_a_clip_and_forgets_its_opinions(curation: Curation) -> None:
    [name] = curation.upsert("demo", [varied(curation, "song")])[0]
    curation.review({name: 0}, Decision(REJECTED, "Ada", reason="voice", rating=1))
    curation.upsert("demo", [varied(curation, "song", audio=b"fLaC 2")])
    row = curation.clip(name)
    assert (row.verdict, row.reason, row.rating, row.opinions) == (OPEN, "", 0, [])


def test_collections_are_listed_with_their_counts(curation: Curation, ids: dict[str, str]) -> None:
    curation.upsert("other", [varied(curation, "elsewhere")])
    curation.review({ids["off"]: 0}, Decision(REJECTED, "Ada"))
    found = [(each.name, each.open, each.accepted, each.rejected) for each in curation.list_collections()]
    assert found == [("demo", 4, 0, 1), ("other", 1, 0, 0)]


def test_rows_of_another_version_are_derived_again(curation: Curation, ids: dict[str, str]) -> None:
    from luthier_curation.database import migrate

    with curation.repository.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM clip_terms")
        connection.execute(cast(Table, ClipRow.__table__).update().values(derived=0, disagreement=0, loudness_lufs=0))
    assert titles(curation, filter=ClipFilter(text="blues")) == []
    migrate(curation.repository.engine)
    assert titles(curation, filter=ClipFilter(text="blues")) == ["octave"]
    loudness = curation.repository.read(
        lambda session: session.scalar(select(ClipRow.loudness_lufs).where(ClipRow.clip_id == ids["quiet"]))
    )
    assert loudness == -40
