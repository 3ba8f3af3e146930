"""What one player does, ready for an instrument: timed channel messages of a part, on one channel.

The sustain pedal is played here, not by the instrument (TinySoundFont and several plugins ignore it): a note whose
key goes up while the pedal is down ends when the pedal comes up or its key is struck again.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.instruments import Instrument
from luthier_rendering import smf
from luthier_rendering.midi import Control, Notes, Song

SUSTAIN: Final = 64
_BANK_LSB: Final = 32  # the bank is chosen by us: bank select never reaches an instrument
_PEDAL: Final = (smf.CONTROL, SUSTAIN)
_NEVER: Final = 1 << 40  # ticks
_PEDAL_DOWN: Final = 64  # from this value on

Message = tuple[float, int, int, int]  # seconds, kind (smf.NOTE_ON, NOTE_OFF, CONTROL, BEND), two data bytes


@dataclass(frozen=True)
class Performance:
    """`messages` by time; at one moment controls come first, then ends of notes, then starts."""

    instrument: Instrument
    name: str
    messages: list[Message]


def performance(song: Song, index: int) -> Performance:
    """The performance of part `index` of a song."""
    part = song.parts[index]
    mine = song.notes.of(song.notes.part == index)
    controls = song.controls[part.track, part.port, part.channel]
    end_ticks = mine.end_tick if part.instrument.is_drum else _pedalled(mine, controls)
    starts, ends = song.tempo.to_seconds(mine.start_tick).tolist(), song.tempo.to_seconds(end_ticks).tolist()
    pitches, velocities = mine.pitch.tolist(), mine.velocity.tolist()
    ranked = [(message[0], 0, message) for message in _timed(song, controls)]
    ranked += [(end, 1, (end, smf.NOTE_OFF, pitch, 0)) for end, pitch in zip(ends, pitches, strict=True)]
    ranked += [
        (start, 2, (start, smf.NOTE_ON, pitch, velocity))
        for start, pitch, velocity in zip(starts, pitches, velocities, strict=True)
    ]
    ranked.sort(key=lambda item: item[:2])
    return Performance(part.instrument, part.name, [message for _, _, message in ranked])


def _timed(song: Song, controls: list[Control]) -> list[Message]:
    """The controls that an instrument is to hear."""
    seconds = song.tempo.to_seconds(np.array([tick for tick, *_ in controls], dtype=np.int64)).tolist()
    return [
        (second, kind, first, value)
        for second, (_, kind, first, value) in zip(seconds, controls, strict=True)
        if not (kind == smf.CONTROL and first in (_BANK_LSB, SUSTAIN))
    ]


def _pedalled(notes: Notes, controls: list[Control]) -> NDArray[np.int64]:
    """When each note ends with the pedal [n], in ticks; a pedal that never comes up lets it ring through the tail."""
    moves = [(tick, value >= _PEDAL_DOWN) for tick, kind, first, value in controls if (kind, first) == _PEDAL]
    if not any(down for _, down in moves):
        return notes.end_tick
    moves.append((_NEVER, False))
    ticks, down = np.array([tick for tick, _ in moves]), np.array([state for _, state in moves])
    state = np.searchsorted(ticks, notes.end_tick, side="right") - 1  # the move in force when the key goes up
    held = (state >= 0) & down[state]
    ups = ticks[~down]
    lifted = ups[np.minimum(np.searchsorted(ups, notes.end_tick, side="right"), ups.size - 1)]
    until = np.minimum(lifted, _struck_again(notes))
    return np.where(held, np.maximum(until, notes.end_tick), notes.end_tick)


def _struck_again(notes: Notes) -> NDArray[np.int64]:
    """Tick at which each note's key is struck next [n]."""
    again = np.full(len(notes), _NEVER)
    for pitch in np.unique(notes.pitch):
        mine = np.flatnonzero(notes.pitch == pitch)
        again[mine[:-1]] = notes.start_tick[mine[1:]]
    return again
