"""Lists: filters, pages that stay right, counts."""

import pytest

from luthier.curation.v1.curation_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_OPEN,
    VERDICT_REJECTED,
    ClipFilter,
    ListClipsRequest,
)
from luthier_curation.curation import Curation
from luthier_curation.listing import Count
from luthier_curation.tables import ACCEPTED, REJECTED, ClipRow
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import InvalidRequest, NotFound

from .builders import clip


def titles(rows: list[ClipRow]) -> list[str]:
    return [row.source.song.title for row in rows]


def found(curation: Curation, **which: object) -> list[str]:
    return titles(list(curation.page(ListClipsRequest(filter=ClipFilter(**which)), 100).clips))  # type: ignore[arg-type]


@pytest.fixture
def filled(curation: Curation) -> Curation:
    """Three clips that differ in everything that can be asked for."""
    rock = clip(curation.store, song=1, title="Alpha", genre="rock", tempo_bpm=140.0)
    tango = clip(
        curation.store, song=2, title="Beta", artist="100%_Vidal", genre="tango", tempo_bpm=118.0, passed=False,
        instruments=("Accordion",),
    )  # fmt: skip
    unknown = clip(curation.store, song=3, title="Gamma", genre="ambient", tempo_bpm=0.0)
    curation.upsert("demo", [unknown, tango, rock])
    curation.upsert("other", [clip(curation.store, song=9, title="Other")])
    return curation


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({}, ["Alpha", "Beta", "Gamma", "Other"]),
        ({"collection": "other"}, ["Other"]),
        ({"text": "TANGO"}, ["Beta"]),
        ({"text": "accordion beta"}, ["Beta"]),
        ({"text": "accordion alpha"}, []),
        ({"text": "100%_"}, ["Beta"]),
        ({"text": "1%_"}, []),
        ({"checked": True, "collection": "demo"}, ["Alpha", "Gamma"]),
        ({"checked": False}, ["Beta"]),
        ({"instrument": "accordion"}, ["Beta"]),
        ({"instrument": "Piano", "collection": "demo"}, ["Alpha", "Gamma"]),
        ({"instrument": "Pian"}, []),
        ({"min_tempo_bpm": 120.0, "collection": "demo"}, ["Alpha"]),
        ({"max_tempo_bpm": 119.0}, ["Beta"]),
    ],
)
def test_a_filter_finds(filled: Curation, which: dict[str, object], expected: list[str]) -> None:
    assert sorted(found(filled, **which)) == expected


def test_a_filter_finds_the_clips_of_files_and_of_audio_by_their_digests(curation: Curation) -> None:
    """As a takedown asks."""
    one, two, three = (clip(curation.store, b"fLaC %d" % n, song=n, title=f"{n}") for n in (1, 2, 3))
    one.source.midi_sha256, two.source.midi_sha256 = "1" * 64, "2" * 64
    curation.upsert("demo", [one, two])
    curation.upsert("other", [three])
    assert sorted(found(curation, midi_sha256=["1" * 64, "2" * 64, "9" * 64])) == ["1", "2"]
    assert found(curation, midi_sha256=["2" * 64], collection="other") == []
    assert found(curation, audio_sha256=[three.audio.sha256]) == ["3"]


def test_a_filter_finds_a_subset(filled: Curation) -> None:
    solo = clip(filled.store, title="Alone")
    solo.source.subset = "monophonic"
    filled.upsert("demo", [solo])
    assert found(filled, subset="monophonic") == ["Alone"]
    assert "Alone" not in found(filled, subset="polyphonic")


def test_verdicts_are_counted_for_the_rest_of_the_filter(filled: Curation) -> None:
    filled.review_all(ClipFilter(collection="demo", text="tango"), Decision(REJECTED, "Ada"))
    filled.review_all(ClipFilter(collection="demo", text="alpha"), Decision(ACCEPTED, "Ada"))
    counts = filled.verdict_counts(ClipFilter(collection="demo", verdict=VERDICT_ACCEPTED))
    assert counts == {"open": Count(1), "accepted": Count(1), "rejected": Count(1)}
    assert found(filled, collection="demo", verdict=VERDICT_REJECTED) == ["Beta"]


def test_pages_cover_everything_once_in_order_of_artist_title_and_time(curation: Curation) -> None:
    clips = [
        clip(curation.store, song=song, artist=artist, title=title, start_s=start)
        for song, (artist, title) in enumerate([("B", "x"), ("a", "z"), ("a", "Y")])
        for start in (100.0, 20.0)
    ]
    curation.upsert("demo", clips)
    seen, token = [], ""
    while True:
        page = curation.page(ListClipsRequest(page_token=token), 4)
        seen += [(row.source.song.artist, row.source.song.title, row.start_ms) for row in page.clips]
        token = page.next_token
        if not token:
            break
    order = [("a", "Y", 20_000), ("a", "Y", 100_000), ("a", "z", 20_000), ("a", "z", 100_000)]
    assert seen == [*order, ("B", "x", 20_000), ("B", "x", 100_000)]
    assert page.total == Count(6)


def test_the_next_page_misses_nothing_when_the_first_is_decided(curation: Curation) -> None:
    curation.upsert("demo", [clip(curation.store, song=song, title=f"{song}") for song in range(6)])
    todo = ClipFilter(collection="demo", verdict=VERDICT_OPEN)
    first = curation.page(ListClipsRequest(filter=todo), 3)
    curation.review({row.clip_id: 1 for row in first.clips}, Decision(ACCEPTED, "Ada"))
    second = curation.page(ListClipsRequest(filter=todo, page_token=first.next_token), 3)
    assert titles(list(second.clips)) == ["3", "4", "5"]


def test_one_can_page_back(curation: Curation) -> None:
    curation.upsert("demo", [clip(curation.store, song=song, title=f"{song}") for song in range(5)])
    first = curation.page(ListClipsRequest(), 2)
    second = curation.page(ListClipsRequest(page_token=first.next_token), 2)
    third = curation.page(ListClipsRequest(page_token=second.next_token), 2)
    back = curation.page(ListClipsRequest(page_token=third.previous_token), 2)
    assert [titles(list(page.clips)) for page in (first, second, third, back)] == [
        ["0", "1"],
        ["2", "3"],
        ["4"],
        ["2", "3"],
    ]
    assert (first.previous_token, third.next_token) == ("", "")


@pytest.mark.parametrize("token", ["zzz", "é", "AAAA", "PgBh"])
def test_a_token_that_is_not_ours_is_refused(curation: Curation, token: str) -> None:
    with pytest.raises(InvalidRequest, match="page_token"):
        curation.page(ListClipsRequest(page_token=token), 10)


def test_an_unknown_clip_is_not_found(curation: Curation) -> None:
    with pytest.raises(NotFound) as missing:
        curation.clip("clip-unknown")
    assert missing.value.reason == "CLIP_NOT_FOUND"
