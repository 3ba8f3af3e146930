"""From events to a song: players are told apart, and each gets what steers it."""

import mido
import pytest

from luthier_rendering.midi import Song, load_song

from .midi_making import control, midi_bytes, name, note, notes, program, tempo


def players(song: Song) -> list[tuple[str, int]]:
    """Instrument name and number of notes of each part."""
    counts = [int((song.notes.part == index).sum()) for index in range(len(song.parts))]
    return [(part.instrument.name, count) for part, count in zip(song.parts, counts, strict=True)]


def test_drums_are_drums_whatever_their_program() -> None:
    song = load_song(midi_bytes([program(0, channel=9), *notes([36, 38], channel=9)]))
    assert players(song) == [("Drums", 2)]


def test_a_drum_bank_makes_drums_of_another_channel() -> None:
    song = load_song(midi_bytes([control(0, 120), program(0), *notes([36, 38])]))
    assert players(song) == [("Drums", 2)]


def test_two_tracks_of_the_same_program_and_name_stay_two() -> None:
    track = [name("Guitar"), program(27), *notes([60, 62])]
    song = load_song(midi_bytes(track, track))
    assert players(song) == [("Electric Guitar (clean)", 2)] * 2


def test_a_program_change_inside_a_track_makes_two_players() -> None:
    song = load_song(midi_bytes([program(0), *notes([60, 62, 64, 65]), program(48, beat=2)]))
    assert players(song) == [("Acoustic Grand Piano", 2), ("String Ensemble 1", 2)]


def test_programs_of_a_conductor_track_hold_for_tracks_that_have_none() -> None:
    song = load_song(midi_bytes([program(73, channel=2)], notes([60], channel=2), [program(40, channel=3)]))
    assert players(song) == [("Flute", 1)]


def test_a_track_keeps_its_own_program_where_two_share_a_channel() -> None:
    song = load_song(midi_bytes([program(0), *notes([60])], [program(32), *notes([40])]))
    assert [who for who, _ in players(song)] == ["Acoustic Grand Piano", "Acoustic Bass"]


def test_until_a_tracks_own_program_comes_the_channels_counts() -> None:
    song = load_song(midi_bytes([program(30)], [*notes([60, 62, 64, 65]), program(40, beat=2)]))
    assert players(song) == [("Distortion Guitar", 2), ("Violin", 2)]


def test_ports_keep_equal_channels_apart() -> None:
    port = mido.MetaMessage("midi_port", port=1, time=0)
    song = load_song(midi_bytes([program(73), *notes([60])], [port, *notes([62])]))
    assert [who for who, _ in players(song)] == ["Flute", "Acoustic Grand Piano"]


def test_format_0_parts_its_channels() -> None:
    track = [*notes([60]), program(33, channel=1), *notes([40], channel=1), *notes([36], channel=9)]
    song = load_song(midi_bytes(track, form=0))
    assert sorted(who for who, _ in players(song)) == ["Acoustic Grand Piano", "Drums", "Electric Bass (finger)"]


def test_overlapping_notes_of_a_key_end_in_order() -> None:
    song = load_song(midi_bytes(note(60, 0, 2) + note(60, 1, 2)))
    assert [(int(a), int(b)) for a, b in zip(song.notes.start_tick, song.notes.end_tick, strict=True)] == [
        (0, 960),
        (480, 1440),
    ]


def test_tempo_changes_move_the_end_of_the_music() -> None:
    song = load_song(midi_bytes([tempo(60), tempo(120, beat=2)], notes([60] * 4)))
    assert song.music_end_s == pytest.approx(2 * 1.0 + 2 * 0.5)


def test_names_lose_control_characters_and_keep_latin_1() -> None:
    raw = mido.MetaMessage("track_name", name="Caf\xe9\n\x07", time=0)
    song = load_song(midi_bytes([raw, *notes([60])]))
    assert song.parts[0].name == "Café"
