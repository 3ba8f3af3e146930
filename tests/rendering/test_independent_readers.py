"""Real songs read by pretty_midi and mido, which share no code with our reader: notes, programs and tempo agree.

They are compared where the others are right: pretty_midi takes tempo from the first track only, loses programs set in
another track of the channel, takes a note's program when it ends instead of when it starts, and ends all open notes of
a key at once (tests/bench/midi_readers.py shows it).
"""

import io
from collections import Counter
from pathlib import Path

import mido
import numpy as np
import pretty_midi
import pytest

from luthier_rendering.midi import Song, load_song
from tests.support.services import shared

pytestmark = pytest.mark.filterwarnings("ignore:Tempo, Key:RuntimeWarning")


@pytest.fixture(params=range(0, 82, 3))
def path(request: pytest.FixtureRequest) -> Path:
    number: int = request.param
    return sorted(shared("corpus", "clean_midi").rglob("*.mid"))[number]


def overlapping(song: Song) -> np.ndarray:
    """Whether a note's key is struck by the same player while it is down [n]."""
    players = {player: index for index, player in enumerate({part.player for part in song.parts})}
    who = np.array([players[part.player] for part in song.parts])[song.notes.part]
    found = np.zeros(len(song.notes), bool)
    for key in np.unique(who * 128 + song.notes.pitch):
        mine = np.flatnonzero(who * 128 + song.notes.pitch == key)
        clash = song.notes.start_tick[mine[1:]] < np.maximum.accumulate(song.notes.end_tick[mine])[:-1]
        found[mine[1:][clash]] = found[mine[:-1][clash]] = True
    return found


def programs_stay_in_their_track(file: mido.MidiFile) -> bool:
    """Whether each track that plays on a channel chooses its program before its first note."""
    for track in file.tracks:
        chosen = {9}
        for message in track:
            if message.type == "program_change":
                chosen.add(message.channel)
            elif message.type == "note_on" and message.velocity and message.channel not in chosen:
                return False
    return True


def played_across_a_change(song: Song, file: mido.MidiFile) -> int:
    """How many notes are held while their track changes the program."""
    count = 0
    for number, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "program_change":
                mine = [p.player.track == number and p.player.part == message.channel for p in song.parts]
                held = (song.notes.start_tick < tick) & (tick <= song.notes.end_tick)
                count += int((held & np.array(mine)[song.notes.part]).sum())
    return count


def test_notes_agree_to_the_tick_where_no_key_is_struck_twice(path: Path) -> None:
    song, theirs = load_song(path.read_bytes()), pretty_midi.PrettyMIDI(str(path))
    notes = song.notes.of(~overlapping(song))
    columns = (notes.start_tick, notes.end_tick, notes.pitch, notes.velocity, song.is_drum[~overlapping(song)])
    ours = Counter(zip(*(column.tolist() for column in columns), strict=True))
    found = Counter(
        (theirs.time_to_tick(note.start), theirs.time_to_tick(note.end), note.pitch, note.velocity, one.is_drum)
        for one in theirs.instruments
        for note in one.notes
    )
    lost = len(song.notes) - sum(found.values())  # to pretty_midi, where a key is struck in the tick of its end
    assert 0 <= lost <= 1
    assert sum((ours - found).values()) <= lost


def test_programs_agree_where_they_stay_in_their_track(path: Path) -> None:
    file = mido.MidiFile(path)
    if not programs_stay_in_their_track(file):
        pytest.skip("a program is set in another track: pretty_midi plays a piano")
    song, theirs = load_song(path.read_bytes()), pretty_midi.PrettyMIDI(str(path))
    ours: Counter[tuple[int, bool]] = Counter()
    for index, part in enumerate(song.parts):
        program = 0 if part.instrument.is_drum else part.instrument.program
        ours[program, part.instrument.is_drum] += int((song.notes.part == index).sum())
    found: Counter[tuple[int, bool]] = Counter()
    for one in theirs.instruments:
        found[0 if one.is_drum else one.program, one.is_drum] += len(one.notes)
    disputed = played_across_a_change(song, file) + abs(len(song.notes) - sum(found.values()))
    assert sum((ours - found).values()) <= disputed
    assert disputed < 0.05 * len(song.notes)


def test_tempo_agrees(path: Path) -> None:
    song, file = load_song(path.read_bytes()), mido.MidiFile(path)
    end_s, now_s = 0.0, 0.0
    for message in file:  # mido merges the tracks and keeps time by every tempo
        now_s += message.time
        if message.type in ("note_on", "note_off"):
            end_s = now_s
    assert song.music_end_s == pytest.approx(end_s, abs=1e-6)
    if not any(message.type == "set_tempo" for track in file.tracks[1:] for message in track):
        starts_s, tempos_bpm = pretty_midi.PrettyMIDI(str(path)).get_tempo_changes()
        assert song.tempo.seconds == pytest.approx(starts_s, abs=1e-6)
        assert song.tempo.tempos_bpm == pytest.approx(tempos_bpm)


def test_the_readers_really_differ_where_they_are_said_to() -> None:
    """The reason why our reader exists: a celesta whose program another track sets is a piano to pretty_midi."""
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    file.tracks.append(mido.MidiTrack([mido.Message("program_change", program=8)]))
    notes = [mido.Message("note_on", note=60, velocity=100), mido.Message("note_off", note=60, time=480)]
    file.tracks.append(mido.MidiTrack(notes))
    data = io.BytesIO()
    file.save(file=data)
    assert [part.instrument.name for part in load_song(data.getvalue()).parts] == ["Celesta"]
    assert [one.program for one in pretty_midi.PrettyMIDI(io.BytesIO(data.getvalue())).instruments] == [0]
