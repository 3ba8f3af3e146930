"""What one player does, ready for an instrument: timed messages of a part, on one channel.

Pedals are played here, not by the instrument (TinySoundFont and several plugins ignore them): a note whose key goes up
while the sustain pedal is down ends when the pedal comes up or its key is struck again; one whose key is down when the
sostenuto pedal goes down ends no earlier than that pedal comes up. Levels and pitch (bend, tuning) are worked out here
as well, so that every back end plays the same.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier_music.instruments import Instrument
from luthier_rendering.channels import Pedal, Steering
from luthier_rendering.midi import Notes, Song
from luthier_rendering.smf import BEND, NOTE_OFF, NOTE_ON

DRUM_RING_S: Final = 8.0  # longer than any stroke of the packaged SoundFont (6.3 s); only a looped sample rings on
_NEVER: Final = 1 << 40  # ticks


class Message(NamedTuple):
    """A message at a time: `kind` is smf.NOTE_ON, NOTE_OFF or CONTROL with its two data bytes, or BEND with the offset
    of all keys in semitones as its value."""

    seconds: float
    kind: int
    first: int
    second: int
    value: float = 0.0


class Gain(NamedTuple):
    """From `seconds` on, amplitudes of the left and right side."""

    seconds: float
    left: float
    right: float


@dataclass(frozen=True)
class Performance:
    """`messages` by time; at one moment controls come first, then ends of notes, then starts. `gains` by time, the
    first at 0 s."""

    instrument: Instrument
    name: str
    messages: list[Message]
    gains: list[Gain]


def performance(song: Song, index: int) -> Performance:
    """The performance of part `index` of a song."""
    part = song.parts[index]
    mine = song.notes.of(song.notes.part == index)
    steering = song.steering[part.player]

    def seconds(ticks: list[int]) -> list[float]:
        found: list[float] = song.tempo.to_seconds(np.array(ticks, dtype=np.int64)).tolist()
        return found

    starts = song.tempo.to_seconds(mine.start_tick)
    if part.instrument.is_drum:
        ends = _strokes_end_s(starts, mine.pitch)
    else:
        ends = song.tempo.to_seconds(_pedalled(mine, steering))
    pitches = mine.pitch.tolist()
    controls, bends = steering.controls, steering.pitches
    ranked = [
        (0, Message(s, c.kind, c.first, c.second))
        for s, c in zip(seconds([c.tick for c in controls]), controls, strict=True)
    ]
    ranked += [
        (0, Message(s, BEND, 0, 0, b.semitones)) for s, b in zip(seconds([b.tick for b in bends]), bends, strict=True)
    ]
    ranked += [(1, Message(end, NOTE_OFF, pitch, 0)) for end, pitch in zip(ends.tolist(), pitches, strict=True)]
    ranked += [
        (2, Message(s, NOTE_ON, p, v)) for s, p, v in zip(starts.tolist(), pitches, mine.velocity.tolist(), strict=True)
    ]
    ranked.sort(key=lambda item: (item[1].seconds, item[0]))
    moments = seconds([level.tick for level in steering.levels])
    gains = {}  # by moment: the last one holds, and until the first note none is heard
    for moment, level in zip(moments, steering.levels, strict=True):
        begins_s = moment if moment > starts[0] else 0.0
        gains[begins_s] = Gain(begins_s, level.left, level.right)
    return Performance(part.instrument, part.name, [message for _, message in ranked], list(gains.values()))


def _strokes_end_s(starts_s: NDArray[np.float64], keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """When each drum stroke must have ended [n], whatever its note-off is: with the next stroke on its key.

    Most end before, with their sample. Cymbals that ring on through twenty strokes would double the time of a song.
    """
    ends = starts_s + DRUM_RING_S
    for key in np.unique(keys):
        mine = np.flatnonzero(keys == key)
        ends[mine[:-1]] = starts_s[mine[1:]]
    return ends


def _pedalled(notes: Notes, steering: Steering) -> NDArray[np.int64]:
    """When each note ends with the pedals [n], in ticks; a pedal that never comes up lets it ring through the tail."""
    if not any(move.down for move in steering.sustain + steering.sostenuto):
        return notes.end_tick
    until = notes.end_tick
    ticks, down, ups = _moves(steering.sostenuto)
    for pressed in ticks[down].tolist():
        lifted = ups[np.searchsorted(ups, pressed, side="right")]
        until = np.where((notes.start_tick <= pressed) & (pressed < notes.end_tick), np.maximum(until, lifted), until)
    ticks, down, ups = _moves(steering.sustain)
    state = np.searchsorted(ticks, until, side="right") - 1  # the move in force when the note is let go
    held = (state >= 0) & down[state]
    until = np.where(held, ups[np.minimum(np.searchsorted(ups, until, side="right"), ups.size - 1)], until)
    for pitch in np.unique(notes.pitch):
        mine = np.flatnonzero(notes.pitch == pitch)
        until[mine[:-1]] = np.minimum(until[mine[:-1]], notes.start_tick[mine[1:]])
    silences = np.array([*steering.silences, _NEVER])
    until = np.minimum(until, silences[np.searchsorted(silences, notes.end_tick, side="left")])
    ends: NDArray[np.int64] = np.maximum(until, notes.end_tick)
    return ends


def _moves(pedal: list[Pedal]) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Ticks of a pedal's moves, whether each presses it, and the ticks at which it comes up, the last one never."""
    ticks = np.array([move.tick for move in pedal] + [_NEVER])
    down = np.array([move.down for move in pedal] + [False])
    return ticks, down, ticks[~down]
