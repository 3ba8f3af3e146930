"""What a MIDI file says, without a sound: the job of a worker process, as a hostile file costs a second of it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from luthier.common.v1.common_pb2 import Timeline
from luthier_rendering.fingerprint import fingerprint
from luthier_rendering.midi import Song, load_song
from luthier_rendering.smf import MidiLimits
from luthier_rendering.timeline import timeline


@dataclass(frozen=True)
class SongFacts:
    """`duration_s` is the music's, without its tail; `notes` are those that are heard; `faults` counts what FAULTS in
    midi.py names."""

    fingerprint: str
    duration_s: float
    tracks: int
    notes: int
    timeline: Timeline
    faults: Counter[str]
    format: int
    ticks_per_beat: int


def facts(song: Song) -> SongFacts:
    """The facts of a song. InvalidRequest MIDI_TOO_MANY_BARS beyond the bound."""
    return SongFacts(
        fingerprint(song),
        song.music_end_s,
        song.tracks,
        len(song.notes),
        timeline(song),
        song.faults,
        song.format,
        song.tempo.ticks_per_beat,
    )


def inspect_file(midi: Path, limits: MidiLimits) -> SongFacts:
    """The facts of a MIDI file. InvalidRequest MIDI_* for a file that cannot be rendered."""
    return facts(load_song(midi.read_bytes(), limits))
