"""What one player does, ready for an instrument: timed channel messages of a part, on one channel."""

from dataclasses import dataclass

import numpy as np

from luthier_music.instruments import Instrument
from luthier_rendering import smf
from luthier_rendering.midi import Song

_BANK_LSB = 32  # the bank is chosen by us: bank select never reaches an instrument

Message = tuple[float, int, int, int]  # seconds, kind (smf.NOTE_ON, NOTE_OFF, CONTROL, BEND), two data bytes


@dataclass(frozen=True)
class Performance:
    """`messages` by time; at one moment controls come first, then ends of notes, then starts."""

    instrument: Instrument
    name: str
    messages: list[Message]
    music_end_s: float


def performance(song: Song, index: int) -> Performance:
    """The performance of part `index` of a song."""
    part = song.parts[index]
    mine = song.notes.of(song.notes.part == index)
    starts = song.tempo.to_seconds(mine.start_tick).tolist()
    ends = song.tempo.to_seconds(mine.end_tick).tolist()
    pitches, velocities = mine.pitch.tolist(), mine.velocity.tolist()
    ranked = [(end, 1, (end, smf.NOTE_OFF, pitch, 0)) for end, pitch in zip(ends, pitches, strict=True)]
    ranked += [
        (start, 2, (start, smf.NOTE_ON, pitch, velocity))
        for start, pitch, velocity in zip(starts, pitches, velocities, strict=True)
    ]
    ranked += [(message[0], 0, message) for message in _controls(song, index)]
    ranked.sort(key=lambda item: item[:2])
    return Performance(part.instrument, part.name, [message for _, _, message in ranked], float(max(ends)))


def _controls(song: Song, index: int) -> list[Message]:
    part = song.parts[index]
    controls = song.controls[part.track, part.port, part.channel]
    seconds = song.tempo.to_seconds(np.array([tick for tick, *_ in controls], dtype=np.int64)).tolist()
    return [
        (second, kind, first, value)
        for second, (_, kind, first, value) in zip(seconds, controls, strict=True)
        if not (kind == smf.CONTROL and first == _BANK_LSB)
    ]
