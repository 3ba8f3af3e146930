"""Notes to a type 1 MIDI file by mido: a conductor track (tempo, meter, key), then one track per part.

Not by pretty_midi, which was tried: it has no public way to state a second tempo, and cuts a beat's microseconds off
where mido rounds (138 BPM becomes 138.0002), so that 4 of the 12 songs were other audio; it drops the title, and brings
NumPy (60 MB) to a command that has none.
"""

from dataclasses import dataclass
from pathlib import Path

import mido

from luthier_pipeline.songbook.parts import Note
from luthier_pipeline.songbook.plan import FORM, SongPlan

TICKS_PER_BEAT = 480
VOLUME, PAN, REVERB = 7, 10, 91  # MIDI control changes


@dataclass(frozen=True)
class Track:
    """channel 0 to 15 (9 = drums), GM program 0 to 127, volume and pan 0 to 127 (64 = middle)."""

    channel: int
    program: int
    name: str
    volume: int
    pan: int
    notes: list[Note]


def write_midi(path: Path, song: SongPlan, tracks: list[Track]) -> None:
    """Writes the song; equal songs give equal bytes."""
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    file.tracks.append(_conductor(song))
    file.tracks.extend(_track(track) for track in tracks)
    file.save(path)


def _conductor(song: SongPlan) -> mido.MidiTrack:
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("track_name", name=song.title))
    track.append(mido.MetaMessage("time_signature", numerator=song.beats_per_bar, denominator=4))
    track.append(mido.MetaMessage("key_signature", key=song.key.midi_name()))
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(song.tempo_bpm)))
    if song.last_tempo_bpm:
        bars_before = sum(len((song.a if letter == "A" else song.b).split()) for letter in FORM[:-1])
        ticks = bars_before * song.beats_per_bar * TICKS_PER_BEAT
        track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(song.last_tempo_bpm), time=ticks))
    return track


def _track(track: Track) -> mido.MidiTrack:
    result = mido.MidiTrack()
    result.append(mido.MetaMessage("track_name", name=track.name))
    result.append(mido.Message("program_change", channel=track.channel, program=track.program))
    for control, value in ((VOLUME, track.volume), (PAN, track.pan), (REVERB, 40)):
        result.append(mido.Message("control_change", channel=track.channel, control=control, value=value))
    now = 0
    for tick, order, pitch, velocity in sorted(_events(track.notes)):
        kind = "note_on" if order else "note_off"
        message = mido.Message(kind, channel=track.channel, note=pitch, velocity=velocity, time=tick - now)
        result.append(message)
        now = tick
    return result


def _events(notes: list[Note]) -> list[tuple[int, int, int, int]]:
    """(tick, 0 = off and 1 = on, pitch, velocity): at one tick, what ends comes before what begins."""
    events = []
    for note in notes:
        start = round(note.start * TICKS_PER_BEAT)
        end = max(start + 1, round((note.start + note.length) * TICKS_PER_BEAT))
        events += [(start, 1, note.pitch, note.velocity), (end, 0, note.pitch, 0)]
    return events
