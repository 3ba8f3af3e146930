"""What one player does, ready for an instrument: timed channel messages of a part, on one channel.

The sustain pedal is played here, not by the instrument (TinySoundFont and several plugins ignore it): a note whose key
goes up while the pedal is down ends when the pedal comes up or its key is struck again.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier_music.instruments import Instrument
from luthier_rendering.midi import Control, Notes, Song
from luthier_rendering.smf import CONTROL, NOTE_OFF, NOTE_ON

_SUSTAIN: Final = 64  # controller number
_BANK_LSB: Final = 32  # the bank is chosen by us: bank select never reaches an instrument
_PEDAL_DOWN: Final = 64  # controller value from which on the pedal is down
_NEVER: Final = 1 << 40  # ticks


class Message(NamedTuple):
    """A channel message at a time: `kind` is smf.NOTE_ON, NOTE_OFF, CONTROL or BEND, with its two data bytes."""

    seconds: float
    kind: int
    first: int
    second: int


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
    events = song.controls[part.player]
    passed_on = [event for event in events if not (event.kind == CONTROL and event.first in (_BANK_LSB, _SUSTAIN))]
    moments = song.tempo.to_seconds(np.array([event.tick for event in passed_on], dtype=np.int64)).tolist()
    end_ticks = mine.end_tick if part.instrument.is_drum else _pedalled(mine, events)
    starts, ends = song.tempo.to_seconds(mine.start_tick).tolist(), song.tempo.to_seconds(end_ticks).tolist()
    pitches, velocities = mine.pitch.tolist(), mine.velocity.tolist()
    ranked = [(0, Message(s, e.kind, e.first, e.second)) for s, e in zip(moments, passed_on, strict=True)]
    ranked += [(1, Message(end, NOTE_OFF, pitch, 0)) for end, pitch in zip(ends, pitches, strict=True)]
    ranked += [(2, Message(s, NOTE_ON, p, v)) for s, p, v in zip(starts, pitches, velocities, strict=True)]
    ranked.sort(key=lambda item: (item[1].seconds, item[0]))
    return Performance(part.instrument, part.name, [message for _, message in ranked])


def _pedalled(notes: Notes, events: list[Control]) -> NDArray[np.int64]:
    """When each note ends with the pedal [n], in ticks; a pedal that never comes up lets it ring through the tail."""
    pedal = [event for event in events if event.kind == CONTROL and event.first == _SUSTAIN]
    if not any(event.second >= _PEDAL_DOWN for event in pedal):
        return notes.end_tick
    ticks = np.array([event.tick for event in pedal] + [_NEVER])
    down = np.array([event.second >= _PEDAL_DOWN for event in pedal] + [False])
    state = np.searchsorted(ticks, notes.end_tick, side="right") - 1  # the move in force when the key goes up
    held = (state >= 0) & down[state]
    ups = ticks[~down]
    lifted = ups[np.minimum(np.searchsorted(ups, notes.end_tick, side="right"), ups.size - 1)]
    struck_again = np.full(len(notes), _NEVER)
    for pitch in np.unique(notes.pitch):
        mine = np.flatnonzero(notes.pitch == pitch)
        struck_again[mine[:-1]] = notes.start_tick[mine[1:]]
    until = np.minimum(lifted, struck_again)
    return np.where(held, np.maximum(until, notes.end_tick), notes.end_tick)
