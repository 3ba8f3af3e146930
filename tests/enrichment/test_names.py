"""Names of songs from paths, as corpora spell them, and how well two names match."""

import pytest

from luthier_enrichment.names import Name, clean_artist, clean_title, from_path, score


@pytest.mark.parametrize(
    ("path", "artist", "title"),
    [
        ("Korp/Indigo.mid", "Korp", "Indigo"),
        ("clean_midi/Korp/Indigo.1.mid", "Korp", "Indigo"),
        ("ABBA/Dancing Queen.2.MID", "ABBA", "Dancing Queen"),
        ("Beatles, The/Help!.mid", "The Beatles", "Help!"),
        ("AC_DC/Thunder_struck.kar", "AC DC", "Thunder struck"),
        ("Goji/My Home, The Colosseum.mid", "Goji", "My Home, The Colosseum"),
        ("Santana/Smooth (feat. Rob Thomas).mid", "Santana", "Smooth"),
        ("Santana/Smooth ft. Rob Thomas.mid", "Santana", "Smooth"),
        ("Toto/03 - Africa (1982).mid", "Toto", "Africa"),
        ("Toto/Toto - Africa.mid", "Toto", "Africa"),
        ("Toto - Africa.mid", "Toto", "Africa"),
        ("Africa.mid", "", "Africa"),
        ("jute/dave3d07.mid", "jute", "dave3d07"),
        ("Prince/1999.mid", "Prince", "1999"),
        ("Lola BlueWorrior Harvey/FTW You 100.mid", "Lola BlueWorrior Harvey", "FTW You 100"),
        ("a\\b\\Artist\\Title.midi", "Artist", "Title"),
        ("../../etc/passwd", "etc", "passwd"),
        ("", "", ""),
        ("/", "", ""),
    ],
)
def test_a_path_names_artist_and_title(path: str, artist: str, title: str) -> None:
    assert from_path(path).name == Name(artist, title)


def test_a_path_tells_the_year_and_the_guest() -> None:
    said = from_path("Santana/Smooth (feat. Rob Thomas) (1999).mid")
    assert (said.year, said.featured) == (1999, "Rob Thomas")


def test_hostile_names_are_bounded_and_plain() -> None:
    name = from_path("A" * 5000 + "/ti\x00tle\u202e\n<script>" + "B" * 5000 + ".mid").name
    assert len(name.artist) <= 200
    assert len(name.title) <= 200
    assert not set("\x00\u202e\n") & set(name.artist + name.title)


@pytest.mark.parametrize(
    ("asked", "found", "low", "high"),
    [
        (("The Beatles", "Help!"), ("Beatles", "Help"), 1.0, 1.0),
        (("Björk", "Jóga"), ("Bjork", "Joga"), 1.0, 1.0),
        (("Simon & Garfunkel", "Cecilia"), ("Simon and Garfunkel", "Cecilia"), 1.0, 1.0),
        (("AC DC", "Thunder struck"), ("AC/DC", "Thunderstruck"), 1.0, 1.0),
        (("Guns N Roses", "November Rain"), ("Guns N' Roses", "November Rain (2022 Version)"), 0.9, 1.0),
        (("Metallica", "Enter Sandmann"), ("Metallica", "Enter Sandman"), 0.9, 0.99),
        (("Korp", "Rain"), ("Korp", "Pain"), 0.0, 0.8),
        (("Korp", "Indigo"), ("Korn", "Indigo"), 0.0, 0.8),
        (("Korp", "Indigo"), ("Frank Ocean", "Indigo"), 0.0, 0.5),
        (("Pink Floyd", "Another Brick Part 1"), ("Pink Floyd", "Another Brick Part 2"), 0.0, 0.5),
        (("Beethoven", "Symphony No 5"), ("Beethoven", "Symphony No 9"), 0.0, 0.5),
        (("Queen", "Sonata II"), ("Queen", "Sonata III"), 0.0, 0.5),
        (("", "Yesterday"), ("The Beatles", "Yesterday"), 0.7, 0.7),
        (("The Beatles", ""), ("The Beatles", "Yesterday"), 0.0, 0.0),
    ],
)  # fmt: skip
def test_the_score_tells_good_matches_from_bad(
    asked: tuple[str, str], found: tuple[str, str], low: float, high: float
) -> None:
    assert low <= score(Name(*asked), Name(*found)) <= high


def test_cleaning_twice_changes_nothing() -> None:
    for text in ("Beatles, The", "AC_DC", "  x  y ", "Toto - Africa (1982)"):
        assert clean_artist(clean_artist(text)) == clean_artist(text)
        assert clean_title(clean_title(text)) == clean_title(text)
