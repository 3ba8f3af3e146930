"""What one player does, ready for an instrument: timed messages of a part, on one channel.

Pedals are played here, not by the instrument (TinySoundFont and several plugins ignore them): notes end when the pedals
let them. Levels and pitch (bend, tuning) are worked out here as well, so that every back end plays the same.

Of what moves a controller, level or pitch more than once within MOVES_S, the last counts: that is how often an
instrument looks at them, and bounds what a performance holds by the length of the song.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier_music.audio import SAMPLE_RATE_HZ
from luthier_music.instruments import Instrument
from luthier_rendering.controllers import SOUND_OFF
from luthier_rendering.humanise import Humanise, Played, humanised
from luthier_rendering.midi import Song
from luthier_rendering.smf import BEND, CONTROL, NOTE_OFF, NOTE_ON
from luthier_rendering.streams import NEVER
from luthier_rendering.timeline import bar_edges

DRUM_RING_S: Final = 8.0  # longer than any stroke of the packaged SoundFont (6.3 s); only a looped sample rings on
MOVES_S: Final = 64 / SAMPLE_RATE_HZ  # TinySoundFont's control period


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
    first at 0 s. `bank` is the variation of the program that the song asks for, 0 for none."""

    instrument: Instrument
    name: str
    messages: list[Message]
    gains: list[Gain]
    bank: int = 0


def performance(song: Song, index: int, humanise: Humanise | None = None, seed: int = 0) -> Performance:
    """The performance of part `index` of a song; humanised by draws of `seed`, if at all."""
    part = song.parts[index]
    mine = song.notes.of(song.notes.part == index)
    steering = song.steering[part.player]
    starts = song.tempo.to_seconds(mine.start_tick)
    is_drum = part.instrument.is_drum
    controls, bends, levels = steering.controls, steering.pitches, steering.levels
    notes = Played(starts, song.tempo.to_seconds(mine.release_tick), mine.velocity)
    if humanise:
        walls = [bar_edges(song), bends.tick, controls.tick[controls.number == SOUND_OFF], *steering.audible]
        walls = [ticks[ticks < NEVER] for ticks in walls]
        notes = humanised(notes, mine.pitch, song.tempo.to_seconds(np.concatenate(walls)), humanise, seed, index)
    first_s = float(starts[0])  # what steers the part until then steers all its notes from the start
    starts = notes.starts_s
    ends = _strokes_end_s(starts, mine.pitch) if is_drum else notes.ends_s
    begin_s = min(first_s, float(starts.min()))
    moved_s, kept = _moves(song.tempo.to_seconds(controls.tick), first_s, controls.number)
    moved_s = [begin_s if s <= first_s else s for s in moved_s] if begin_s < first_s else moved_s
    numbers, values = controls.number[kept].tolist(), controls.value[kept].tolist()
    ranked = [(0, Message(s, CONTROL, n, v)) for s, n, v in zip(moved_s, numbers, values, strict=True)]
    moved_s, kept = _moves(song.tempo.to_seconds(bends.tick), first_s)
    offsets = bends.semitones[kept].tolist()
    ranked += [(0, Message(s, BEND, 0, 0, offset)) for s, offset in zip(moved_s, offsets, strict=True)]
    pitches = mine.pitch.tolist()
    ranked += [(1, Message(end, NOTE_OFF, pitch, 0)) for end, pitch in zip(ends.tolist(), pitches, strict=True)]
    ranked += [
        (2, Message(s, NOTE_ON, p, v))
        for s, p, v in zip(starts.tolist(), pitches, notes.velocity.tolist(), strict=True)
    ]
    ranked.sort(key=lambda item: (item[1].seconds, item[0]))
    moved_s, kept = _moves(song.tempo.to_seconds(levels.tick), first_s)
    sides = zip(moved_s, levels.left[kept].tolist(), levels.right[kept].tolist(), strict=True)
    gains = [Gain(s if s > first_s else 0.0, left, right) for s, left, right in sides]
    return Performance(part.instrument, part.name, [message for _, message in ranked], gains, part.bank)


def _moves(
    seconds: NDArray[np.float64], first_s: float, kinds: NDArray[np.int64] | None = None
) -> tuple[list[float], NDArray[np.int64]]:
    """Which of the moves at `seconds` [n], in order, are heard, and their times: of each kind the last one until the
    first note, and the last one in each period from then on."""
    period = np.where(seconds <= first_s, -1, np.floor(seconds / MOVES_S + 0.5)).astype(np.int64)
    kind = np.zeros(seconds.size, dtype=np.int64) if kinds is None else kinds
    order = np.lexsort((period, kind))
    last = np.append((np.diff(period[order]) != 0) | (np.diff(kind[order]) != 0), True)[: seconds.size]
    kept = np.sort(order[last])
    return seconds[kept].tolist(), kept


def _strokes_end_s(starts_s: NDArray[np.float64], keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """When each drum stroke must have ended [n], whatever its note-off is: with the next stroke on its key, after
    DRUM_RING_S at the latest.

    Most end before, with their sample. Cymbals that ring on through twenty strokes would double the time of a song.
    """
    ends = starts_s + DRUM_RING_S
    for key in np.unique(keys):
        mine = np.flatnonzero(keys == key)
        ends[mine[:-1]] = np.minimum(ends[mine[:-1]], starts_s[mine[1:]])
    return ends
