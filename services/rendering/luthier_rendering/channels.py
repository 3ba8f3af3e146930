"""What the messages of a MIDI channel mean: which notes sound, on what sound, how loud, where and at which pitch.

A channel's state belongs to the channel, not to a track. Time and memory are linear in the file: what a part receives
is followed once, for all tracks, and what it comes to is kept as columns, which the tracks share.

Sources: MIDI 1.0 Detailed Specification; General MIDI 1 (RP-003) and 2 (RP-024); Response to Reset All Controllers
(RP-015); data increment (RP-018); Roland GS and Yamaha XG for their banks.
"""

from array import array
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier_rendering import controllers as cc
from luthier_rendering import exclusive, smf
from luthier_rendering.streams import EXCLUSIVE_TRACK, NEVER, Stream

_LEVELS: Final = (cc.VOLUME, cc.BALANCE, cc.EXPRESSION)
_LEVELS_LSB: Final = tuple(number + cc.LSB for number in _LEVELS)
_FOLLOWED_HERE: Final = frozenset(
    {cc.BANK, cc.DATA, cc.BANK_LSB, cc.DATA_LSB, *_LEVELS, *_LEVELS_LSB}
    | {cc.SUSTAIN, cc.SOSTENUTO, *range(cc.INCREMENT, cc.RPN + 1), *range(cc.RESET_CONTROLLERS, 128)}
)  # all other controllers are passed on to the instrument
_CENTRED: Final = frozenset([cc.PAN, *range(71, 79)])  # controllers whose default is 64; others have 0
_BEND_RANGE, _FINE_TUNING, _COARSE_TUNING = range(3)  # registered parameters that are heard
DRUM_SOUND: Final = 128
MAX_BEND_SEMITONES: Final = 24.0
"""The widest bend range that GM2, GS and XG know: a wider one is a fault of the file, and costs a plugin minutes."""
UNENDED: Final = -1


class Controls(NamedTuple):
    """What steers an instrument: controller changes [n]."""

    tick: NDArray[np.int64]
    number: NDArray[np.int64]
    value: NDArray[np.int64]


class Levels(NamedTuple):
    """From each `tick` [n] on, amplitudes of the left and right side: 1.0 is volume, expression and master volume 127.
    The first is at tick 0."""

    tick: NDArray[np.int64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]


class Pitches(NamedTuple):
    """From each `tick` [n] on, by how many semitones all keys are off: bend, fine tuning and master tuning."""

    tick: NDArray[np.int64]
    semitones: NDArray[np.float64]


class Pedal(NamedTuple):
    """From each `tick` [n] on a pedal is down or up."""

    tick: NDArray[np.int64]
    down: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Steering:
    """What steers the notes of a part, by time; without an entry at its start the default holds."""

    controls: Controls
    levels: Levels
    pitches: Pitches
    sustain: Pedal
    sostenuto: Pedal
    silences: NDArray[np.int64]  # ticks at which all sound ends, also what a pedal holds

    def __len__(self) -> int:
        columns = self.controls, self.levels, self.pitches, self.sustain, self.sostenuto
        return sum(column.tick.size for column in columns) + self.silences.size

    @cached_property
    def audible(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Between which ticks [n] its level is not 0: where each such span starts, and where it ends."""
        loud = (self.levels.left > 0) | (self.levels.right > 0)
        turns = np.flatnonzero(np.diff(loud, prepend=False))
        ticks = self.levels.tick[turns]
        starts, ends = ticks[::2], ticks[1::2]
        return starts, ends if ends.size == starts.size else np.append(ends, NEVER)


class Struck(NamedTuple):
    """Notes as columns [n]: `end` is -1 where nothing ends one; `shift` in semitones moves the key of a pitched one;
    `sound` is the program that plays it, or, from 128 on, the drum kit of this number less 128; `bank` the variation
    of that program that is asked for, 0 for none."""

    track: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    shift: NDArray[np.int64]
    sound: NDArray[np.int64]
    bank: NDArray[np.int64]


def amplitude(value: float) -> float:
    """Of a volume, expression or velocity of 0..127: 40 log10(value / 127) dB, as General MIDI recommends (RP-003).

    With its lower seven bits a volume ends a little above 127: that is no louder.
    """
    return min(1.0, (value / 127.0) ** 2)


class _Chosen(NamedTuple):
    """A program change: a time, the program, and the bank that held, with its lower seven bits."""

    time: int
    program: int
    bank: int | None
    bank_lsb: int


class _Programs:
    """Which sound the notes of each track play, as the events of a part go by.

    A bank waits for the program change. What makes drums: General MIDI 1 the tenth channel; General MIDI 2 bank 120;
    GS the parts that system exclusive makes rhythm parts, whatever the bank; XG banks 126 and 127, else bank 127 is the
    tenth channel's; without a reset message the tenth channel and banks 120 and 127.

    What a bank varies: General MIDI 1 has no banks; General MIDI 2 counts variations in the lower seven bits of bank
    121, XG in those of bank 0; GS, and files without a reset message, in the upper ones.

    Tracks with program changes of their own keep to them once the first has come, the others follow those of all
    tracks; system exclusive reaches both. Nothing here goes through the tracks: what concerns all of them is kept
    apart, with its time.
    """

    def __init__(self, part: int, own: frozenset[int]) -> None:
        """`own` are the tracks that have program changes of their own."""
        self._rhythm_part, self._own = part == exclusive.DRUM_PART, own
        self.reset(0)

    def reset(self, standard: int) -> None:
        self._standard, self._rhythm = standard, self._rhythm_part
        self._waiting: int | None = None
        self._waiting_lsb = 0
        self._time = self._all_time = 0
        self._all_bank: int | None = None  # what a rhythm setting chose for all tracks, at _all_time
        self._of_all = _Chosen(0, 0, None, 0)
        self._set = _Chosen(0, 0, None, 0)  # by system exclusive, for tracks of their own
        self._of_track: dict[int, _Chosen] = {}
        self._begun: set[int] = set()  # tracks whose first program change of their own has come

    def bank(self, value: int) -> None:
        self._waiting = value

    def bank_lsb(self, value: int) -> None:
        self._waiting_lsb = value

    def program(self, number: int, track: int) -> None:
        self._time += 1
        self._of_all = chosen = _Chosen(self._time, number, self._waiting, self._waiting_lsb)
        if track == EXCLUSIVE_TRACK:
            self._set = chosen
            self._of_track.clear()
        elif track in self._own:
            self._of_track[track] = chosen
            self._begun.add(track)

    def rhythm(self, standard: int, *, on: bool) -> None:
        self._rhythm = on
        if exclusive.XG in (self._standard, standard):
            self._time += 1
            self._waiting = self._all_bank = 127 * on
            self._all_time = self._time

    def sound(self, track: int) -> tuple[int, int]:
        """Sound and bank as in Struck."""
        time, program, bank, lsb = self._of_track.get(track, self._set) if track in self._begun else self._of_all
        if self._all_time > time:
            bank = self._all_bank
        match self._standard, bank:
            case (0, 120 | 127) | (2, 120) | (4, 126 | 127):
                is_drum = True
            case (2, 121):
                is_drum = False
            case (4, int()):
                is_drum = False
            case _:
                is_drum = self._rhythm
        if is_drum:
            return program + DRUM_SOUND, 0
        match self._standard, bank:
            case (2, 121) | (4, 0 | None):
                return program, lsb
            case (0 | 3, int()) if bank < 120:
                return program, bank
            case _:
                return program, 0


def follow(stream: Stream, part: int) -> "Follower":
    """A part that was followed to its end.

    A note-off ends the oldest open note of its key and track. Where that leaves both notes without an end and ends
    without a note, notes of this key end in other tracks than they start in: then all tracks are one.
    """
    followed = Follower(stream, part)
    split = followed.unended & followed.unmatched.keys()
    return Follower(stream, part, frozenset(split)) if split else followed


class Follower:
    """Follows one part: its notes, what steers them, and the number of note-offs by key that end nothing."""

    def __init__(self, stream: Stream, part: int, across: frozenset[int] = frozenset()) -> None:
        """`across` are the keys whose notes end in whatever track."""
        own = np.unique(stream.track[stream.kind == smf.PROGRAM]).tolist()
        self._programs = _Programs(part, frozenset(own))
        self._across = across
        self.unmatched: Counter[int] = Counter()
        self._columns = [array("q") for _ in Struck._fields]
        self._track, self._start, self._end, *_, self._sound, self._bank = self._columns
        self._open: dict[int, deque[int]] = defaultdict(deque)  # by track and key: notes that have no end yet
        self._new = 0  # the first note of this tick: its sound is that of the tick's end
        self._controls, self._silences = array("q"), array("q")
        self._level_ticks, self._left, self._right = array("q"), array("d"), array("d")
        self._pitch_ticks, self._semitones = array("q"), array("d")
        self._pedals = {number: (array("q"), array("b")) for number in (cc.SUSTAIN, cc.SOSTENUTO)}
        self._passed_on: dict[int, int] = {}
        self._tick, self._moved = 0, True
        self._defaults()
        self._follow(stream)

    @property
    def notes(self) -> Struck:
        return Struck(*(np.array(column, dtype=np.int64) for column in self._columns))

    @property
    def unended(self) -> set[int]:
        """Keys of notes that nothing ends."""
        return {key & 127 for key, waiting in self._open.items() if waiting}

    @property
    def steering(self) -> Steering:
        controls = np.array(self._controls, dtype=np.int64)
        sustain, sostenuto = (
            Pedal(np.array(ticks, dtype=np.int64), np.array(down, dtype=bool)) for ticks, down in self._pedals.values()
        )
        return Steering(
            Controls(controls >> 16, controls >> 8 & 0xFF, controls & 0xFF),
            Levels(np.array(self._level_ticks, dtype=np.int64), np.array(self._left), np.array(self._right)),
            Pitches(np.array(self._pitch_ticks, dtype=np.int64), np.array(self._semitones)),
            sustain,
            sostenuto,
            np.array(self._silences, dtype=np.int64),
        )

    def _defaults(self) -> None:
        self._levels: dict[int, float] = {cc.VOLUME: 100, cc.EXPRESSION: 127, cc.BALANCE: 64}
        self._bend = 8192
        self._master_volume, self._master_balance, self._master_tuning = 127, 64, 0  # tuning in 0.1 cents
        self._key_shift, self._part_shift = 0, 0  # semitones
        self._parameters = {_BEND_RANGE: [2, 0], _FINE_TUNING: [64, 0], _COARSE_TUNING: [64, 0]}
        self._chosen: list[int] = [127, 127]  # the registered parameter: high and low byte, 127 and 127 for none

    def _follow(self, stream: Stream) -> None:
        for tick, kind, first, second, track in stream.rows():
            if tick != self._tick:
                self._leave_tick()
                self._tick = tick
            if kind == smf.NOTE_ON and second:
                self._strike(first, second, track)
            elif kind in (smf.NOTE_ON, smf.NOTE_OFF):
                self._release(first, track)
            elif kind == smf.CONTROL:
                self._control(first, second)
            elif kind == smf.BEND:
                self._bend, self._moved = first | second << 7, True
            elif kind == smf.PROGRAM:
                self._programs.program(first, track)
            elif kind >= exclusive.RESET:
                self._exclusive(kind, first, second)
        self._leave_tick()

    def _leave_tick(self) -> None:
        """Note what holds at the end of a tick: what notes are played on, and where the level or pitch changed."""
        for note in range(self._new, len(self._start)):
            self._sound[note], self._bank[note] = self._programs.sound(self._track[note])
        self._new = len(self._start)
        if self._moved:
            self._settle()
            self._moved = False

    def _strike(self, key: int, velocity: int, track: int) -> None:
        shift = self._parameters[_COARSE_TUNING][0] - 64 + self._key_shift + self._part_shift
        self._open[self._place(key, track)].append(len(self._start))
        for column, value in zip(self._columns, (track, self._tick, UNENDED, key, velocity, shift, 0, 0), strict=True):
            column.append(value)

    def _release(self, key: int, track: int) -> None:
        waiting = self._open.get(self._place(key, track))
        if waiting:
            self._end[waiting.popleft()] = self._tick
        else:
            self.unmatched[key] += 1

    def _place(self, key: int, track: int) -> int:
        return key if key in self._across else (track + 1) << 7 | key

    def _control(self, number: int, value: int) -> None:
        if number not in _FOLLOWED_HERE:
            self._pass_on(number, value)
            return
        self._moved = True
        if number in _LEVELS:
            self._levels[number] = value  # and the lower seven bits are 0 until they are sent, too (MIDI 1.0)
        elif number in _LEVELS_LSB:
            self._levels[number - cc.LSB] = int(self._levels[number - cc.LSB]) + value / 128
        elif number == cc.BANK:
            self._programs.bank(value)
        elif number == cc.BANK_LSB:
            self._programs.bank_lsb(value)
        elif number in (cc.SUSTAIN, cc.SOSTENUTO):
            self._pedal(number, value >= 64)
        elif number in (cc.RPN, cc.RPN_LSB):
            self._chosen[number == cc.RPN_LSB] = value
        elif number in (cc.NRPN, cc.NRPN_LSB):
            self._chosen = [127, 127]  # what other parameters do is the maker's affair
        elif number in (cc.DATA, cc.DATA_LSB, cc.INCREMENT, cc.DECREMENT):
            self._data(number, value)
        elif number == cc.RESET_CONTROLLERS:
            self._reset_controllers()
        elif number >= cc.NOTES_OFF:
            self._end_notes()

    def _pass_on(self, number: int, value: int) -> None:
        if number == cc.PAN and self._passed_on.get(cc.PAN + cc.LSB):
            self._pass_on(cc.PAN + cc.LSB, 0)
        self._passed_on[number] = value
        self._controls.append(self._tick << 16 | number << 8 | value)
        if number == cc.SOUND_OFF:
            self._end_notes()
            self._silences.append(self._tick)

    def _pedal(self, number: int, down: bool) -> None:
        ticks, states = self._pedals[number]
        if down != bool(states and states[-1]):
            ticks.append(self._tick)
            states.append(down)

    def _data(self, number: int, value: int) -> None:
        parameter = self._parameters.get(self._chosen[1]) if self._chosen[0] == 0 else None
        if parameter is None:
            return
        if number in (cc.DATA, cc.DATA_LSB):
            parameter[number == cc.DATA_LSB] = value
            return
        step = 1 if number == cc.INCREMENT else -1
        if self._chosen[1] == _COARSE_TUNING:
            parameter[0] = min(127, max(0, parameter[0] + step))
        else:
            base = 100 if self._chosen[1] == _BEND_RANGE else 128  # cents make up the lower byte of a range (RP-018)
            parameter[:] = divmod(min(128 * base - 1, max(0, parameter[0] * base + parameter[1] + step)), base)

    def _reset_controllers(self) -> None:
        """RP-015: volume, pan, balance, bank, program, effects, sound controllers and parameter values stay."""
        self._levels[cc.EXPRESSION], self._bend, self._chosen = 127, 8192, [127, 127]
        for pedal in (cc.SUSTAIN, cc.SOSTENUTO):
            self._pedal(pedal, False)
        for number in (cc.MODULATION, cc.PORTAMENTO, cc.SOFT):
            if self._passed_on.get(number):
                self._pass_on(number, 0)

    def _end_notes(self) -> None:
        for waiting in self._open.values():
            for note in waiting:
                self._end[note] = self._tick
        self._open.clear()

    def _exclusive(self, kind: int, first: int, value: int) -> None:
        self._moved = True
        if kind == exclusive.RESET:
            self._reset(value)
        elif kind == exclusive.RHYTHM:
            self._programs.rhythm(first, on=bool(value))
        elif kind == exclusive.RECEIVE:
            self._end_notes()
        elif kind == exclusive.MASTER_VOLUME:
            self._master_volume = value
        elif kind == exclusive.MASTER_BALANCE:
            self._master_balance = value
        elif kind == exclusive.MASTER_TUNING:
            self._master_tuning = value
        elif kind == exclusive.KEY_SHIFT:
            self._key_shift = value
        elif kind == exclusive.PART_SHIFT:
            self._part_shift = value
        elif kind == exclusive.BEND_RANGE_SET:
            self._parameters[_BEND_RANGE] = [value, 0]

    def _reset(self, standard: int) -> None:
        self._end_notes()
        self._reset_controllers()
        self._defaults()
        self._programs.reset(standard)
        for number, was in list(self._passed_on.items()):
            default = 64 if number in _CENTRED else 0
            if was != default and number != cc.SOUND_OFF:
                self._pass_on(number, default)
        self._passed_on.clear()

    def _settle(self) -> None:
        """Note how loud and at which pitch the part is now, where that changed."""
        levels = self._levels
        loud = amplitude(levels[cc.VOLUME]) * amplitude(levels[cc.EXPRESSION]) * amplitude(self._master_volume)
        left = right = loud
        for balance in (min(127, levels[cc.BALANCE]), self._master_balance):
            left *= min(1.0, (127 - balance) / 63)
            right *= min(1.0, balance / 64)
        if not self._left or (left, right) != (self._left[-1], self._right[-1]):
            self._level_ticks.append(self._tick)
            self._left.append(left)
            self._right.append(right)
        reach = min(MAX_BEND_SEMITONES, self._parameters[_BEND_RANGE][0] + self._parameters[_BEND_RANGE][1] / 100)
        fine = (self._parameters[_FINE_TUNING][0] << 7 | self._parameters[_FINE_TUNING][1]) / 8192 - 1
        bend = (self._bend - 8192) / (8191 if self._bend > 8192 else 8192)
        semitones = bend * reach + fine + self._master_tuning / 1000
        if semitones != (self._semitones[-1] if self._semitones else 0.0):
            self._pitch_ticks.append(self._tick)
            self._semitones.append(semitones)
