"""Findings of several providers become one answer."""

import pytest

from luthier_enrichment.findings import (
    MAX_DROPPED_TAGS,
    MAX_TAGS,
    MAX_UNKNOWN_TAGS,
    Dropped,
    Finding,
    RawTag,
    Reason,
    State,
    merge,
)
from luthier_enrichment.names import Name


def matched(*tags: tuple[str, float] | tuple[str, float, str]) -> Finding:
    return Finding(State.MATCHED, tags=[RawTag(*tag) for tag in tags])


def test_equal_words_become_one_the_heaviest_with_its_source() -> None:
    found = [("file", "CC0", matched(("Hip-Hop", 0.5))), ("lastfm", "terms", matched(("hiphop", 0.9), ("chill", 0.2)))]
    assert [(t.text, t.kind, t.weight, t.source, t.licence) for t in merge(found).tags] == [
        ("hip hop", "genre", 0.9, "lastfm", "terms"), ("relaxed", "mood", 0.2, "lastfm", "terms"),
    ]  # fmt: skip


def test_voices_are_dropped_and_counted_noise_is_dropped() -> None:
    merged = merge(
        [("lastfm", "x", matched(("female vocalists", 1.0), ("rap", 1.0), ("seen live", 1.0), ("rock", 1.0)))]
    )
    assert [t.text for t in merged.tags] == ["rock"]
    assert merged.dropped_vocal_tags == 2
    assert merged.dropped == (
        Dropped("female vocalists", Reason.VOCAL, "lastfm"),
        Dropped("rap", Reason.VOCAL, "lastfm"),
        Dropped("seen live", Reason.NOISE, "lastfm"),
    )


def test_what_did_not_match_counts_for_nothing() -> None:
    assert not merge([("lastfm", "x", Finding(State.NO_MATCH, tags=[RawTag("rock")]))]).tags


def test_a_kind_is_believed_only_where_the_vocabulary_is_silent() -> None:
    merged = merge(
        [("file", "x", matched(("rock", 1.0, "mood"), ("swamp thing", 0.9, "genre"), ("seattle", 0.8, "city")))]
    )
    assert [(t.text, t.kind) for t in merged.tags] == [
        ("rock", "genre"),
        ("swamp thing", "genre"),
        ("seattle", "other"),
    ]


def test_a_tag_of_several_known_words_is_several_tags() -> None:
    merged = merge([("lastfm", "x", matched(("80s british pop", 0.6), ("pop", 0.4)))])
    assert [(t.text, t.kind, t.weight) for t in merged.tags] == [("1980s", "era", 0.6), ("pop", "genre", 0.6)]


@pytest.mark.parametrize(
    ("artist", "title", "tag"),
    [
        ("The Beatles", "Yesterday", "beatles"),
        ("The Beatles", "Yesterday", "The Beatles"),
        ("The Beatles", "Yesterday", "Yesterday"),
        ("The Beatles", "Yesterday", "beatles - yesterday"),
        ("The Beatles", "Yesterday", "Beatles cover"),
        ("Paul McCartney", "Jet", "mccartney"),
        ("The Dave Brubeck Quartet", "Take Five", "Dave Brubeck"),
        ("Björk", "Jóga", "bjork"),
        ("Metallica", "Enter Sandman", "sandman"),
        ("Billy Joel", "Piano Man", "piano man"),  # or it is an instrument
        ("Led Zeppelin", "Rock and Roll", "rock and roll"),  # or it is a genre: nobody can know
        ("Pharrell Williams", "Happy", "happy"),
    ],
)
def test_a_tag_that_repeats_artist_or_title_is_dropped(artist: str, title: str, tag: str) -> None:
    merged = merge([("lastfm", "x", matched((tag, 1.0)))], names=[Name(artist, title)])
    assert not merged.tags
    assert [gone.reason for gone in merged.dropped] == [Reason.NAME]


@pytest.mark.parametrize(
    ("artist", "title", "tag", "text"),
    [
        ("Death", "Crystal Mountain", "death metal", "death metal"),
        ("Soul Asylum", "Runaway Train", "soul", "soul"),
        ("Europe", "The Final Countdown", "europop", "europop"),
        ("U2", "One", "one of the best", "one of the best"),
        ("The Beatles", "While My Guitar Gently Weeps", "guitar", "guitar"),
        ("Bread", "If", "soft rock", "soft rock"),
        ("", "Yesterday", "60s", "1960s"),
    ],
)
def test_a_word_that_means_something_else_stays(artist: str, title: str, tag: str, text: str) -> None:
    merged = merge([("lastfm", "x", matched((tag, 1.0)))], names=[Name(artist, title)])
    assert [t.text for t in merged.tags] == [text]
    assert not merged.dropped


def test_who_states_the_kind_means_the_word_and_not_the_name() -> None:
    own = Name("Led Zeppelin", "Rock and Roll")
    merged = merge([("musicbrainz", "CC0", matched(("rock and roll", 1.0, "genre")))], names=[own])
    assert [(t.text, t.kind) for t in merged.tags] == [("rock", "genre")]


def test_the_names_that_a_provider_matched_count_as_well() -> None:
    found = Finding(State.MATCHED, matched=Name("Ludwig van Beethoven", "Für Elise"), tags=[RawTag("beethoven")])
    merged = merge([("lastfm", "x", found)], names=[Name("Beethovn", "Fur Elise")])
    assert [gone.text for gone in merged.dropped] == ["beethoven"]


def test_the_unknown_is_kept_for_a_person_after_the_known_and_bounded() -> None:
    unknown = [(f"word {number} a", 1.0) for number in range(500)]
    known = [("sunshine pop", 0.1), ("djent", 0.2), ("doo-wop", 0.3)]
    merged = merge([("lastfm", "x", matched(*unknown, *known))])
    assert [t.text for t in merged.tags[:3]] == ["doo wop", "djent", "sunshine pop"]
    assert [t.kind for t in merged.tags[3:]] == ["other"] * MAX_UNKNOWN_TAGS


def test_the_answer_is_bounded() -> None:
    many = [(f"{number} guitars", 7.0) for number in range(500)]
    nothing = [(f"{number} singers", 7.0) for number in range(500)]
    merged = merge([("file", "x", matched(*many, *nothing))])
    assert len(merged.tags) == MAX_TAGS
    assert len(merged.dropped) == MAX_DROPPED_TAGS
    assert all(0 <= tag.weight <= 1 and len(tag.text) <= 64 for tag in merged.tags)


def test_a_hostile_tag_is_bounded_and_plain() -> None:
    hostile = "the beatles\x00\u202e" + "<script> and the beatles " * 1000
    merged = merge([("file", "x", matched((hostile, float("nan"))))], names=[Name("The Beatles", "Help!")])
    assert [len(gone.text) <= 64 for gone in merged.dropped] == [True]
