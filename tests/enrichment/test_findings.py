"""Findings of several providers become one answer."""

from luthier_enrichment.findings import MAX_TAGS, Finding, RawTag, State, merge


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


def test_the_answer_is_bounded() -> None:
    merged = merge([("file", "x", matched(*((f"word {number} a", 7.0) for number in range(500))))])
    assert len(merged.tags) == MAX_TAGS
    assert all(0 <= tag.weight <= 1 and len(tag.text) <= 64 for tag in merged.tags)
