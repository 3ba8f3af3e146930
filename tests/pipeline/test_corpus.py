"""The manifest: what is kept, what is a duplicate, and that everything is accounted for."""

import pytest

from luthier_kit.errors import InvalidRequest
from luthier_pipeline.corpus import Corpus, Entry, _resolve_duplicates, midi_files
from luthier_pipeline.failure import Failure


def entry(path: str, fingerprint: str = "", failed: bool = False) -> Entry:
    return Entry(path, fingerprint=fingerprint, failure=Failure(path, "ingest", "MIDI_EMPTY", "") if failed else None)


def test_of_files_with_the_same_notes_the_plainest_name_stays():
    rows = _resolve_duplicates([entry("A/Song.1.mid", "f"), entry("A/Song.mid", "f"), entry("A/Other.mid", "g")])
    assert [row.duplicate_of for row in rows] == ["A/Song.mid", "", ""]


def test_files_are_songs_duplicates_and_failures():
    corpus = Corpus(_resolve_duplicates([entry("a.mid", "f"), entry("b.mid", "f"), entry("c.mid", failed=True)]))
    assert len(corpus.entries) == len(corpus.songs) + len(corpus.duplicates) + len(corpus.failures)


def test_a_manifest_survives_the_round_trip_and_is_canonical():
    corpus = Corpus((entry("a.mid", "f"), entry("c.mid", failed=True)), licence="CC0-1.0")
    again = Corpus.from_json(corpus.to_json())
    assert again == corpus
    assert again.to_json() == corpus.to_json()


@pytest.mark.parametrize("data", [b"", b"[]", b'{"version": 9, "files": [], "licence": ""}', b'{"version": 1}'])
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(InvalidRequest):
        Corpus.from_json(data)


def test_midi_files_are_found_whatever_the_case_of_their_ending(tmp_path):
    for name in ("b/x.MID", "a/y.mid", "z.midi", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in midi_files(tmp_path)] == ["y.mid", "x.MID", "z.midi"]
