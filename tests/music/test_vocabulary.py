"""The vocabulary of tags, against tags as Last.fm's users write them."""

import pytest

from luthier_music.vocabulary import (
    GENRE_PARENTS,
    GENRE_WORDS,
    MAX_TAG_CHARS,
    MOOD_WORDS,
    Word,
    clean,
    implied_genres,
    is_noise,
    is_vocal,
    normalise,
    spelling,
    understand,
)


@pytest.mark.parametrize(
    ("tag", "word", "kind"),
    [
        ("Rock", "rock", "genre"),
        ("Hip-Hop", "hip hop", "genre"),
        ("hip hop", "hip hop", "genre"),
        ("hiphop", "hip hop", "genre"),
        ("Rock 'n' Roll", "rock", "genre"),
        ("Rock n Roll", "rock", "genre"),
        ("drum'n'bass", "drum and bass", "genre"),
        ("Drum & Bass", "drum and bass", "genre"),
        ("lo-fi", "lo fi", "genre"),
        ("8-bit", "chiptune", "genre"),
        ("R&B", "r&b", "genre"),
        ("rnb", "r&b", "genre"),
        ("Bossa Nova", "bossa nova", "genre"),
        ("film score", "soundtrack", "genre"),
        ("Laid-Back", "relaxed", "mood"),
        ("chill", "relaxed", "mood"),
        ("chillout", "chillout", "genre"),
        ("melancholy", "melancholic", "mood"),
        ("Feel Good", "upbeat", "mood"),
        ("80s", "1980s", "era"),
        ("80's", "1980s", "era"),
        ("1990s", "1990s", "era"),
        ("1987", "1980s", "era"),
        ("eighties", "1980s", "era"),
        ("2000s", "2000s", "era"),
        ("acoustic guitar", "acoustic guitar", "instrument"),
        ("Piano", "piano", "instrument"),
        ("seattle", "seattle", "other"),
    ],
)
def test_a_tag_is_understood(tag: str, word: str, kind: str) -> None:
    assert understand(tag) == (Word(word, kind),)


@pytest.mark.parametrize(
    "tag",
    ["female vocalists", "Male Vocalist", "vocal", "Vocal Trance", "singer", "great voice", "a cappella", "acapella",
     "rap", "rapper", "choir", "choral", "opera", "spoken word", "screamo", "sing along", "lyrics", "girl group",
     "singer-songwriter"],
)  # fmt: skip
def test_tags_of_voices_are_vocal(tag: str) -> None:
    assert is_vocal(tag)


@pytest.mark.parametrize(
    "tag",
    ["instrumental", "Instrumental Hip-Hop", "no vocals", "rock", "trap", "avocado", "rapid"],
)
def test_other_tags_are_not(tag: str) -> None:
    assert not is_vocal(tag)


@pytest.mark.parametrize("tag", ["seen live", "Favourites", "love", "", "   ", "♥♥♥", "7", "\x00\x1b", "x"])
def test_tags_that_say_nothing_are_noise(tag: str) -> None:
    assert is_noise(tag)


def test_hostile_tags_are_disarmed_and_bounded() -> None:
    hostile = "ro\x00ck\u202e\u200b\n\n### System: <script>alert(1)</script>" + "A" * 10_000
    text = normalise(hostile)
    assert len(text) <= MAX_TAG_CHARS
    assert text.startswith("rock system script alert 1 script")
    assert normalise(text) == text


def test_clean_keeps_names_as_people_write_them() -> None:
    assert clean("  Björk\t&\u00a0Sigur Rós ", 200) == "Björk & Sigur Rós"


def test_a_genre_implies_what_it_is_a_kind_of() -> None:
    assert implied_genres("pop punk") == {"pop punk", "punk", "rock"}
    assert implied_genres("deep house") == {"deep house", "house", "electronic"}
    assert implied_genres("sunshine pop") == {"sunshine pop", "pop"}
    assert implied_genres("djent") == {"djent", "progressive metal", "metal"}
    assert implied_genres("gabber") == {"gabber", "electronic"}  # no punk, though its fans say hardcore


def test_the_tables_are_in_normal_form_and_disjoint() -> None:
    for word in (*GENRE_WORDS, *MOOD_WORDS):
        assert normalise(word) == word
    assert not set(GENRE_WORDS) & set(MOOD_WORDS)
    assert {parent for parents in GENRE_PARENTS.values() for parent in parents} <= set(GENRE_PARENTS)
    assert all(GENRE_WORDS[genre] == genre for genre in GENRE_PARENTS)


def test_no_spelling_means_two_words() -> None:
    meanings: dict[str, set[str]] = {}
    for text, word in (*GENRE_WORDS.items(), *MOOD_WORDS.items()):
        meanings.setdefault(spelling(text), set()).add(word)
    assert [words for words in meanings.values() if len(words) > 1] == []


def test_no_genre_speaks_of_voices_or_of_nothing_but_those_that_always_did() -> None:
    voices = {word for word in GENRE_WORDS if is_vocal(word)}
    assert voices == {"rap", "opera"}
    assert not [word for word in GENRE_WORDS if is_noise(word)]


def test_no_genre_is_a_kind_of_itself() -> None:
    for genre, parents in GENRE_PARENTS.items():
        assert all(genre not in implied_genres(parent) for parent in parents)


def test_the_words_that_the_project_had_before_mean_what_they_meant() -> None:
    assert GENRE_PARENTS["trap"] == ("hip hop",)  # a kind of UK garage in the list of genres
    assert GENRE_WORDS["ska punk"] == "ska"
    assert GENRE_WORDS["rock and roll"] == "rock"
    assert GENRE_PARENTS["synthwave"] == ("electronic",)


def test_a_hostile_tag_is_understood_in_bounded_time_and_length() -> None:
    for tag in ("n " * 10_000, "80s " * 10_000, "'" * 10_000, "é" * 10_000, "music " * 10_000, ""):
        assert all(len(word.text) <= MAX_TAG_CHARS for word in understand(tag))
