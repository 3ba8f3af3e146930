"""The songbook keeps its word: what truth.json says is what the MIDI files play."""

import csv
import hashlib
import math
from itertools import pairwise
from pathlib import Path

import mido
import pytest

from luthier_pipeline.songbook import SongTruth, compose, read_truth, theory

# Krumhansl and Kessler 1982, probe-tone ratings from the tonic up.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


Book = tuple[Path, list[SongTruth]]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SongTruth]]:
    folder = tmp_path_factory.mktemp("book")
    return folder, compose(folder)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def notes(path: Path) -> list[tuple[float, float, int, int]]:
    """(start, end in seconds, pitch, channel) of every note, in order of their ends."""
    now, sounding, found = 0.0, {}, []
    for message in mido.MidiFile(path):
        now += message.time
        if message.type == "note_on" and message.velocity:
            sounding[message.channel, message.note] = now
        elif message.type == "note_off":
            start = sounding.pop((message.channel, message.note))
            found.append((start, now, message.note, message.channel))
    assert not sounding
    return found


def best_key(path: Path) -> tuple[str, str]:
    weights = [0.0] * 12
    for start, end, pitch, channel in notes(path):
        weights[pitch % 12] += (end - start) * (channel != 9)
    return max(
        ((tonic, mode) for tonic in TONICS for mode in PROFILES),
        key=lambda key: correlation(weights, PROFILES[key[1]], TONICS.index(key[0])),
    )


def correlation(weights: list[float], profile: tuple[float, ...], shift: int) -> float:
    turned = [weights[(i + shift) % 12] for i in range(12)]
    a = [w - sum(turned) / 12 for w in turned]
    b = [p - sum(profile) / 12 for p in profile]
    covariance = sum(x * y for x, y in zip(a, b, strict=True))
    return covariance / math.sqrt(sum(x * x for x in a))


def test_twelve_songs_differ_in_genre_tempo_and_key(book: Book) -> None:
    _, songs = book
    assert len(songs) == 12
    assert len({song.genre for song in songs}) == 12
    assert len({song.tempo_bpm for song in songs}) == 12
    assert len({(song.tonic, song.mode) for song in songs}) == 12
    assert {song.mode for song in songs} == {"major", "minor"}


def test_the_same_arguments_give_the_same_bytes(book: Book, tmp_path: Path) -> None:
    folder, _ = book
    compose(tmp_path)
    assert digests(tmp_path) == digests(folder)


def test_another_seed_changes_every_song_but_not_its_truth(book: Book, tmp_path: Path) -> None:
    folder, _ = book
    compose(tmp_path, seed=1)
    before, after = digests(folder), digests(tmp_path)
    assert {name for name in before if before[name] == after[name]} == {"truth.json", "tags.csv"}


def test_songs_beyond_the_twelve_are_further_songs(tmp_path: Path) -> None:
    songs = compose(tmp_path, count=30)
    assert len({song.path for song in songs}) == 30
    assert all(75 <= song.tempo_bpm <= 160 for song in songs)
    assert len(set(digests(tmp_path).values())) == 32


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_count_out_of_bounds_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 1000"):
        compose(tmp_path, count=count)


def test_durations_are_as_told_and_give_one_or_two_clips(book: Book) -> None:
    folder, songs = book
    for song in songs:
        length = mido.MidiFile(folder / song.path).length
        assert song.duration_s - 0.5 < length <= song.duration_s
        assert 40 <= song.duration_s <= 65


def test_tempos_are_as_told_section_by_section(book: Book) -> None:
    folder, songs = book
    for song in songs:
        told = [song.sections[0].tempo_bpm]
        told += [b.tempo_bpm for a, b in pairwise(song.sections) if a.tempo_bpm != b.tempo_bpm]
        tempos = [round(mido.tempo2bpm(m.tempo)) for m in mido.MidiFile(folder / song.path) if m.type == "set_tempo"]
        assert tempos == told
        assert song.tempo_changes == (len(told) > 1)
    assert sum(song.tempo_changes for song in songs) == 1


def test_sections_follow_the_form_and_leave_no_gap(book: Book) -> None:
    _, songs = book
    for song in songs:
        assert [section.label for section in song.sections] == ["A", "A", "B", "A"]
        assert song.sections[0].start_s == 0
        assert all(a.end_s == b.start_s for a, b in pairwise(song.sections))


def test_one_song_is_a_waltz(book: Book) -> None:
    folder, songs = book
    (waltz,) = [song for song in songs if song.beats_per_bar == 3]
    meters = [m for m in mido.MidiFile(folder / waltz.path) if m.type == "time_signature"]
    assert [(m.numerator, m.denominator) for m in meters] == [(3, 4)]


def test_the_notes_are_in_the_key_that_is_told(book: Book) -> None:
    folder, songs = book
    found = {song.path: best_key(folder / song.path) for song in songs}
    assert found == {song.path: (song.tonic, song.mode) for song in songs}


def test_the_instruments_told_are_those_that_play(book: Book) -> None:
    folder, songs = book
    for song in songs:
        programs = {m.channel: m.program for m in mido.MidiFile(folder / song.path) if m.type == "program_change"}
        playing = {channel for *_, channel in notes(folder / song.path)}
        heard = {-1 if channel == 9 else programs[channel] for channel in playing}
        assert heard == {instrument.program for instrument in song.instruments}


def test_instrument_names_are_the_vocabulary_of_general_midi(book: Book) -> None:
    instruments = pytest.importorskip("luthier_music.instruments")
    names = {(i.program, i.name) for song in book[1] for i in song.instruments if i.program >= 0}
    assert {program: instruments.instrument(program).name for program, _ in names} == dict(names)


def test_tonics_are_spelled_as_the_analysis_spells_them() -> None:
    keys = pytest.importorskip("luthier_music.keys")
    assert theory.TONICS == keys.TONICS


def test_truth_is_read_back_as_written(book: Book) -> None:
    folder, songs = book
    assert read_truth(folder / "truth.json") == songs


def test_the_sheet_names_every_song_with_genre_source_and_licence(book: Book) -> None:
    folder, songs = book
    with (folder / "tags.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    genres = {(row["artist"], row["title"]): row["tag"] for row in rows if row["kind"] == "genre"}
    assert genres == {(song.artist, song.title): song.genre for song in songs}
    assert {(row["source"], row["licence"]) for row in rows} == {("luthier songbook", "Apache-2.0")}
