"""Which files of a corpus are one song, which of them stays, and which share a split."""

import random

import pytest

from luthier.pipeline.v1.pipeline_pb2 import CorpusFile
from luthier.rendering.v1.rendering_pb2 import NoteSignature, VoiceSignature
from luthier_pipeline.near_duplicates import Sketch, Sketches
from luthier_pipeline.same_song import MOST_RELATED, Earlier, groups, mark, other_versions, why_kept


def file(path: str, fingerprint: str = "", parts: int = 5, notes: int = 100, duration_s: float = 60.0) -> CorpusFile:
    return CorpusFile(
        path=path, fingerprint=fingerprint or path, parts=parts, notes=notes, duration_s=duration_s,
        near_duplicate_of="stale", related_fingerprints=["stale"],
    )  # fmt: skip


def sketches(**songs: int) -> Sketches:
    """By fingerprint: the same number is the same notes."""
    return Sketches.of(
        {
            name: Sketch.of(NoteSignature(voices=[VoiceSignature(hashes=range(1000 * number, 1000 * number + 100))]))
            for name, number in songs.items()
        }
    )


def test_files_with_the_same_notes_name_the_one_with_the_plainest_path() -> None:
    files = [file("A/Song.1.mid", "f"), file("A/Song.mid", "f"), file("A/Other.mid", "g")]
    mark(files)
    assert [one.duplicate_of for one in files] == ["A/Song.mid", "", ""]


@pytest.mark.parametrize(
    ("better", "why"),
    [
        (file("z/long path", "b", parts=6, notes=50), "has more parts"),
        (file("z/long path", "b", notes=101, duration_s=10), "has more notes"),
        (file("z/long path", "b", duration_s=61), "is longer"),
        (file("p", "b"), "has the shorter path"),
        (file("path 0", "b"), "is the first by name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_best_near_duplicate_stays(better: CorpusFile, why: str) -> None:
    files = [file("path 1", "a"), better]
    mark(files, sketches(a=1, b=1))
    assert (files[0].near_duplicate_of, files[0].similarity) == (better.path, 1.0)
    assert (better.near_duplicate_of, better.similarity) == ("", 0.0)
    assert why_kept(better, files[0]) == why


def test_what_was_rendered_before_stays_whatever_comes() -> None:
    files = [file("old", "a"), file("new", "b", parts=9)]
    mark(files, sketches(a=1, b=1), Earlier(rendered=frozenset({"a"})))
    assert [one.near_duplicate_of for one in files] == ["", "old"]
    assert why_kept(*files).startswith("was rendered before")


def voices(*numbers: int) -> Sketch:
    """A song of these voices: the same number is the same voice."""
    return Sketch.of(
        NoteSignature(voices=[VoiceSignature(hashes=range(1000 * number, 1000 * number + 100)) for number in numbers])
    )


def test_songs_that_only_a_medley_connects_are_both_kept_and_share_a_split() -> None:
    files = [file("a", parts=9), file("b", parts=8), file("medley", parts=1)]
    mark(files, Sketches.of({"a": voices(1), "b": voices(2), "medley": voices(1, 2)}))
    assert [(one.near_duplicate_of, one.similarity) for one in files] == [("", 0.0), ("", 0.0), ("a", 1.0)]
    assert [list(one.related_fingerprints) for one in files] == [["b", "medley"], ["a", "medley"], ["a", "b"]]


@pytest.mark.parametrize("rendered", [frozenset[str](), frozenset({"medley"})])
def test_a_medley_that_has_more_of_everything_drops_none_of_its_songs(rendered: frozenset[str]) -> None:
    files = [file("a"), file("b"), file("longer b", notes=300), file("medley", parts=9, notes=900, duration_s=600.0)]
    songs = {"a": voices(1), "b": voices(2), "longer b": voices(2), "medley": voices(1, 2)}
    mark(files, Sketches.of(songs), Earlier(rendered=rendered))
    assert [one.near_duplicate_of for one in files] == ["", "longer b", "", "longer b"]
    assert "medley" in why_kept(files[2], files[3])


def test_of_two_medleys_and_their_songs_the_songs_stay() -> None:
    files = [file("a"), file("b"), file("m", parts=9), file("n", parts=8)]
    mark(files, Sketches.of({"a": voices(1), "b": voices(2), "m": voices(1, 2), "n": voices(1, 2)}))
    assert [bool(one.near_duplicate_of) for one in files] == [False, False, True, True]


def test_a_song_whose_variants_lack_different_voices_is_no_medley() -> None:
    """Neither variant holds the other, yet both have most of the song."""
    files = [file("whole", parts=4), file("no bass", parts=3), file("no melody", parts=3)]
    parts = {"whole": voices(1, 2, 3, 4), "no bass": voices(1, 3, 4), "no melody": voices(2, 3, 4)}
    mark(files, Sketches.of(parts))
    assert [one.near_duplicate_of for one in files] == ["", "whole", "whole"]


def test_a_song_is_not_dropped_for_a_fragment_that_is_too_short_to_tell_apart() -> None:
    files = [file("a", parts=5, notes=100), file("b", parts=1, notes=40)]
    short = range(5000, 5040)
    whole = Sketch.of(NoteSignature(voices=[VoiceSignature(hashes=range(1000, 1006), short_hashes=short)]))
    fragment = Sketch.of(NoteSignature(voices=[VoiceSignature(short_hashes=short[:36])]))
    mark(files, Sketches.of({"a": whole, "b": fragment}))
    assert [one.near_duplicate_of for one in files] == ["", "a"]


def test_a_short_song_does_not_hide_that_the_others_of_a_medley_are_apart() -> None:
    files = [file("a"), file("b"), file("fragment"), file("medley", parts=9)]
    few = Sketch.of(NoteSignature(voices=[VoiceSignature(hashes=range(1000, 1007), short_hashes=range(5000, 5040))]))
    both = NoteSignature(
        voices=[
            VoiceSignature(hashes=range(1000, 1100), short_hashes=range(5000, 5040)),
            VoiceSignature(hashes=range(2000, 2100), short_hashes=range(6000, 6040)),
        ]
    )
    songs = {"a": voices(1), "b": voices(2), "fragment": few, "medley": Sketch.of(both)}
    mark(files, Sketches.of(songs))
    assert files[0].near_duplicate_of == files[1].near_duplicate_of == ""
    assert files[3].near_duplicate_of


def test_a_song_of_two_medleys_is_itself_none() -> None:
    files = [file("m1", parts=9), file("m2", parts=8), file("s0")]
    medley, other = voices(0, 1, 2, 3, 4, 5), voices(0, 6, 7, 8, 9, 10)
    earlier = Earlier(rendered=frozenset({"s0"}))
    mark(files, Sketches.of({"m1": medley, "m2": other, "s0": voices(0)}), earlier)
    assert [one.near_duplicate_of for one in files] == ["s0", "s0", ""]


def test_a_medley_of_which_only_the_smallest_hashes_are_known_is_one() -> None:
    """Rendering keeps some thousand of a song."""
    files = [file("a"), file("b"), file("medley", parts=9)]
    below, draw = 1 << 30, random.Random(1)
    of_a, of_b = (sorted(draw.sample(range(1 << 32), 400)) for _ in range(2))
    kept = [VoiceSignature(hashes=[one for one in voice if one < below]) for voice in (of_a, of_b)]
    songs = {
        "a": Sketch.of(NoteSignature(voices=[VoiceSignature(hashes=of_a)])),
        "b": Sketch.of(NoteSignature(voices=[VoiceSignature(hashes=of_b)])),
        "medley": Sketch.of(NoteSignature(voices=kept, below=below)),
    }
    mark(files, Sketches.of(songs))
    assert [bool(one.near_duplicate_of) for one in files] == [False, False, True]


def test_a_near_duplicate_names_the_most_similar_of_those_that_are_kept() -> None:
    files = [file("a", parts=9), file("b", parts=8), file("medley", parts=1)]
    shortened = VoiceSignature(hashes=range(1000, 1070))
    rest = VoiceSignature(hashes=range(5000, 5030))
    a = Sketch.of(NoteSignature(voices=[VoiceSignature(hashes=[*shortened.hashes, *rest.hashes])]))
    mark(files, Sketches.of({"a": a, "b": voices(2), "medley": voices(1, 2)}))
    assert [(one.near_duplicate_of, one.similarity) for one in files] == [("", 0.0), ("", 0.0), ("b", 1.0)]


def test_near_duplicates_name_each_other_and_no_others() -> None:
    files = [file("a"), file("b"), file("c"), file("d")]
    mark(files, sketches(a=1, b=2, c=1, d=1))
    assert [list(one.related_fingerprints) for one in files] == [["c", "d"], [], ["a", "d"], ["a", "c"]]


def test_a_song_of_an_earlier_folder_shares_its_split_and_does_not_replace() -> None:
    [new] = files = [file("new", "b", parts=1)]
    mark(files, sketches(a=1, b=1), Earlier([file("old", "a", parts=9)], frozenset({"a"})))
    assert (list(new.related_fingerprints), new.near_duplicate_of) == (["a"], "")


def test_a_large_group_names_its_smallest_fingerprint_in_every_member() -> None:
    files = [file(f"{number:03}") for number in range(150)]
    mark(files, sketches(**{f"{number:03}": 1 for number in range(150)}))
    assert all(len(one.related_fingerprints) == MOST_RELATED for one in files)
    assert all(one.related_fingerprints[0] == "000" for one in files[1:])


@pytest.mark.parametrize("ending", [".1", ".12", " (2)", "(2)", "_2", " copy", " - copy", " Copy 3"])
def test_names_that_say_another_version(ending: str) -> None:
    files = [file("A/Song.mid"), file(f"A/Song{ending}.MID")]
    mark(files)
    assert [one.other_version_of for one in files] == ["", "A/Song.mid"]
    assert [list(one.related_fingerprints) for one in files] == [[files[1].fingerprint], [files[0].fingerprint]]
    assert [one.near_duplicate_of for one in files] == ["", ""]  # both are rendered


def test_recordings_are_versions_by_their_names_whatever_their_format() -> None:
    files = [file(f"A/{name}") for name in ("T.flac", "T.mp3", "T (1).mp3", "T (1).ogg", "T.live.mp3", "U.mp3")]
    mark(files)
    same = ["A/T.flac"] * 3
    assert [one.other_version_of for one in files] == ["", *same, "", ""]
    assert [len(one.related_fingerprints) for one in files] == [3, 3, 3, 3, 0, 0]


def test_one_name_with_different_endings_is_one_song_where_no_plainer_name_is() -> None:
    files = [file("A/T.2.mid"), file("A/T.2.midi"), file("A/T.3.mid")]
    assert other_versions(files) == {"A/T.2.midi": "A/T.2.mid"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A/Nocturne Op.9 No.1.mid", "A/Nocturne Op.9 No.2.mid"),
        ("A/Song.mid", "B/Song.1.mid"),
        ("A/Song.mid", "A/Song 2.mid"),
        ("A/Song.mid", "A/Song.live.mid"),
        ("A/1999.mid", "A/_1.mid"),
    ],
)
def test_names_that_do_not(one: str, other: str) -> None:
    assert other_versions([file(one), file(other)]) == {}


def test_groups_are_what_links_connect() -> None:
    assert groups([("d", "c"), ("a", "b"), ("b", "c"), ("x", "y")]) == [["a", "b", "c", "d"], ["x", "y"]]
    assert groups([]) == []
