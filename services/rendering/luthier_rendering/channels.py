"""What the messages of a MIDI channel mean: which notes sound, on what sound, how loud, where and at which pitch.

A channel's state belongs to the channel, not to a track: the events of all tracks of a format 1 file that play on one
channel of one port are followed together, by time, as a sequencer sends them. At one tick a track's order counts, then
the order of the tracks; system exclusive that opens a tick comes first.

Sources: MIDI 1.0 Detailed Specification; General MIDI 1 (RP-003) and 2 (RP-024); Response to Reset All Controllers
(RP-015); data increment (RP-018); Roland GS and Yamaha XG for their resets, rhythm parts and part parameters.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from luthier_rendering import smf
from luthier_rendering.smf import Exclusive, MidiLimits, Smf, within

DRUM_CHANNEL: Final = 9  # the tenth, counted from 0
BANK, MODULATION, DATA, VOLUME, BALANCE, PAN, EXPRESSION, BANK_LSB, DATA_LSB = 0, 1, 6, 7, 8, 10, 11, 32, 38
SUSTAIN, PORTAMENTO, SOSTENUTO, SOFT, INCREMENT, DECREMENT, NRPN_LSB, NRPN, RPN_LSB, RPN = (
    64,
    65,
    66,
    67,
    *range(96, 102),
)
SOUND_OFF, RESET_CONTROLLERS, LOCAL, NOTES_OFF = 120, 121, 122, 123  # 124..127 choose a mode and end all notes
_FOLLOWED_HERE: Final = frozenset(
    {BANK, DATA, VOLUME, BALANCE, EXPRESSION, BANK_LSB, DATA_LSB, 32 + VOLUME, 32 + BALANCE, 32 + EXPRESSION}
    | {SUSTAIN, SOSTENUTO, *range(INCREMENT, RPN + 1), *range(RESET_CONTROLLERS, 128)}
)  # all other controllers are passed on to the instrument
_CENTRED: Final = frozenset([PAN, *range(71, 79)])  # controllers whose default is 64; others have 0
_BEND_RANGE, _FINE_TUNING, _COARSE_TUNING = range(3)  # registered parameters that are heard

GM, GM2, GS, XG = range(1, 5)  # what decides the meaning of banks; 0 = no reset message was sent
_RESET, _RHYTHM, _MASTER_VOLUME, _MASTER_BALANCE, _MASTER_TUNING, _KEY_SHIFT, _PART_SHIFT, _BEND_RANGE_SET = range(
    0x100, 0x108
)  # kinds of events beside those of smf: what system exclusive does to a channel
_EXCLUSIVE_TRACK: Final = -1


class Event(NamedTuple):
    """A channel event with the track that it is in; what system exclusive does is of track -1."""

    tick: int
    kind: int
    first: int
    second: int
    track: int


class Control(NamedTuple):
    """What steers an instrument: `kind` is smf.CONTROL, with its two data bytes."""

    tick: int
    kind: int
    first: int
    second: int


class Level(NamedTuple):
    """From `tick` on, amplitudes of the left and right side: 1.0 is volume, expression and master volume 127."""

    tick: int
    left: float
    right: float


class PitchOffset(NamedTuple):
    """From `tick` on, by how many semitones all keys are off: bend, fine tuning and master tuning."""

    tick: int
    semitones: float


class Pedal(NamedTuple):
    """From `tick` on a pedal is down or up."""

    tick: int
    down: bool


@dataclass
class Steering:
    """What steers the notes of a channel, each list by time; a list without an entry at its start means the default."""

    controls: list[Control] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    pitches: list[PitchOffset] = field(default_factory=list)
    sustain: list[Pedal] = field(default_factory=list)
    sostenuto: list[Pedal] = field(default_factory=list)
    silences: list[int] = field(default_factory=list)  # ticks at which all sound ends, also what a pedal holds

    def __len__(self) -> int:
        return sum(map(len, vars(self).values()))


class Struck(NamedTuple):
    """A note: `end` is None when nothing ends it; `shift` in semitones moves the key of a pitched one."""

    start: int
    end: int | None
    pitch: int
    velocity: int
    shift: int


class Sound(NamedTuple):
    """From `tick` on the channel plays a program, or the kit of this number."""

    tick: int
    program: int
    is_drum: bool


def amplitude(value: float) -> float:
    """Of a volume, expression or velocity of 0..127: 40 log10(value / 127) dB, as General MIDI recommends (RP-003)."""
    return (value / 127.0) ** 2


def channel_events(file: Smf, ports: list[int], limits: MidiLimits) -> dict[tuple[int, int], list[Event]]:
    """The events of each port and channel on which notes start, of all tracks together, by time.

    `ports` are the tracks' ports; system exclusive of a track without one (0) reaches all ports.
    """
    playing = sorted(
        {
            (port, channel)
            for port, track in zip(ports, file.tracks, strict=True)
            for channel, kind in set(zip(track.channel_events.channel, track.channel_events.kind, strict=True))
            if kind == smf.NOTE_ON
        }
    )
    first: dict[tuple[int, int], list[Event]] = {key: [] for key in playing}
    then: dict[tuple[int, int], list[Event]] = {key: [] for key in playing}
    exclusives = 0
    for number, track in enumerate(file.tracks):
        own = [then.get((ports[number], channel)) for channel in range(16)]
        rows, at = list(track.channel_events.rows()), 0
        for exclusive in [*track.exclusives, Exclusive(0, b"", len(rows))]:  # the last one: the rest of the track
            for tick, kind, channel, one, two in rows[at : exclusive.after]:
                stream = own[channel]
                if stream is not None:
                    stream.append(Event(tick, kind, one, two, number))
            at = exclusive.after
            opens = at == 0 or rows[at - 1][0] < exclusive.tick
            for wanted, kind, one, two in _meaning(exclusive.data):
                for port, channel in playing:
                    if wanted in (channel, None) and ports[number] in (port, 0):
                        event = Event(exclusive.tick, kind, one, two, _EXCLUSIVE_TRACK)
                        (first if opens else then)[port, channel].append(event)
                        exclusives += 1
            within("MIDI_TOO_MANY_EVENTS", "events", exclusives, limits.events)
    return {key: sorted(first[key] + then[key], key=lambda event: event.tick) for key in playing}


def _meaning(data: bytes) -> Iterator[tuple[int | None, int, int, int]]:
    """What a system exclusive message does: (channel, None = all; kind; its two values), nothing for most."""
    match list(data):
        case [0x7E, _, 0x09, what]:
            yield None, _RESET, 0, {1: GM, 3: GM2}.get(what, 0)
        case [0x7F, _, 0x04, 1 | 2 as what, _, high]:
            yield None, _MASTER_VOLUME if what == 1 else _MASTER_BALANCE, 0, high
        case [0x7F, _, 0x04, 3, low, high]:
            yield None, _MASTER_TUNING, 0, round(((high << 7 | low) / 8192 - 1) * 1000)
        case [0x7F, _, 0x04, 4, _, high]:
            yield None, _KEY_SHIFT, 0, high - 64
        case [0x41, _, 0x42, 0x12, 0x40 | 0, 0, 0x7F, *_]:
            yield None, _RESET, 0, GS
        case [0x41, _, 0x42, 0x12, 0x40, 0, low, *values, _] if values:
            yield from _master(low, {0: _MASTER_TUNING, 4: _MASTER_VOLUME, 5: _KEY_SHIFT}, values)
        case [0x41, _, 0x42, 0x12, 0x40, part, low, *values, _] if values and part >> 4 in (1, 2):
            block = part & 15
            channel = DRUM_CHANNEL if block == 0 else block - (block < DRUM_CHANNEL + 1)  # block 0 is the tenth part
            yield from _part(channel, GS, (part >> 4) << 8 | low, values)
        case [0x43, _, 0x4C, 0, 0, 0x7E | 0x7F, *_]:
            yield None, _RESET, 0, XG
        case [0x43, _, 0x4C, 0, 0, low, *values] if values:
            yield from _master(low, {0: _MASTER_TUNING, 4: _MASTER_VOLUME, 6: _KEY_SHIFT}, values)
        case [0x43, _, 0x4C, 8, part, low, *values] if values and part < 16:
            yield from _part(part, XG, low, values)


def _master(address: int, kinds: dict[int, int], values: list[int]) -> Iterator[tuple[None, int, int, int]]:
    """A master parameter of GS or XG; the tuning is four nibbles of 0.1 cents, 0x400 = none."""
    kind = kinds.get(address)
    if kind == _MASTER_TUNING and len(values) >= 4:
        yield None, kind, 0, sum((nibble & 15) << 4 * (3 - at) for at, nibble in enumerate(values[:4])) - 1024
    elif kind in (_MASTER_VOLUME, _KEY_SHIFT):
        yield None, kind, 0, values[0] - 64 * (kind == _KEY_SHIFT)


_GS_PART: Final = {0x119: VOLUME, 0x11C: PAN}
_XG_PART: Final = {0x01: BANK, 0x02: BANK_LSB, 0x0B: VOLUME, 0x0E: PAN}


def _part(channel: int, standard: int, address: int, values: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """A parameter of one part, whose channel is the one that it has after a reset."""
    value, controllers = values[0], _GS_PART if standard == GS else _XG_PART
    if address in controllers:
        yield channel, smf.CONTROL, controllers[address], value
    elif address == (0x115 if standard == GS else 0x07):
        yield channel, _RHYTHM, standard, int(value > 0)
    elif address == (0x116 if standard == GS else 0x08):
        yield channel, _PART_SHIFT, 0, value - 64
    elif address == (0x210 if standard == GS else 0x23):
        yield channel, _BEND_RANGE_SET, 0, abs(value - 64)
    elif standard == GS and address == 0x100 and len(values) > 1:
        yield channel, smf.CONTROL, BANK, value
        yield channel, smf.PROGRAM, values[1], 0
    elif standard == XG and address == 0x03:
        yield channel, smf.PROGRAM, value, 0


def chooses_sound(event: Event) -> bool:
    """Whether `sounds` looks at this event."""
    return event.kind in (smf.PROGRAM, _RESET, _RHYTHM) or (event.kind == smf.CONTROL and event.first == BANK)


def sounds(events: Iterable[Event], channel: int, track: int | None) -> list[Sound]:
    """What a channel plays, for notes of a track that has program changes of its own, or of one that has none (None).

    A bank waits for the program change. What makes drums: General MIDI 1 the tenth channel; General MIDI 2 bank 120;
    GS the parts that system exclusive makes rhythm parts, whatever the bank; XG banks 126 and 127, else bank 127 is the
    tenth channel's; without a reset message the tenth channel and banks 120 and 127.
    """
    standard, program, rhythm = 0, 0, channel == DRUM_CHANNEL
    waiting: int | None = None
    bank: int | None = None
    found = [Sound(0, 0, rhythm)]
    for event in events:
        match event.kind:
            case smf.CONTROL if event.first == BANK:
                waiting = event.second
                continue
            case smf.PROGRAM if track is None or event.track in (track, _EXCLUSIVE_TRACK):
                program, bank = event.first, waiting
            case 0x100:  # _RESET
                standard, program, rhythm, waiting, bank = event.second, 0, channel == DRUM_CHANNEL, None, None
            case 0x101:  # _RHYTHM
                rhythm = bool(event.second)
                if XG in (standard, event.first):
                    waiting = bank = 127 * event.second
            case _:
                continue
        match standard, bank:
            case (0, 120 | 127) | (2, 120) | (4, 126 | 127):
                is_drum = True
            case (2, 121):
                is_drum = False
            case (4, int()):
                is_drum = False
            case _:
                is_drum = rhythm
        found.append(Sound(event.tick, program, is_drum))
    return found


class Follower:
    """Follows one channel: `notes` by track, in order of their ends, and `steering`; each note-off ends the oldest open
    note of its key and track."""

    def __init__(self, events: Iterable[Event]) -> None:
        """All events of the channel, by time."""
        self.notes: dict[int, list[Struck]] = defaultdict(list)
        self.steering = Steering()
        self.unmatched_offs = 0
        self._open: dict[tuple[int, int], deque[Struck]] = defaultdict(deque)
        self._passed_on: dict[int, int] = {}
        self._level, self._semitones = (0.0, 0.0), 0.0
        self._defaults()
        self._follow(events)

    def _defaults(self) -> None:
        self._volume, self._expression, self._balance, self._bend = 100, 127, 64, 8192
        self._master_volume, self._master_balance, self._master_tuning = 127, 64, 0  # tuning in 0.1 cents
        self._key_shift, self._part_shift = 0, 0  # semitones
        self._parameters = {_BEND_RANGE: [2, 0], _FINE_TUNING: [64, 0], _COARSE_TUNING: [64, 0]}
        self._chosen: list[int] = [127, 127]  # the registered parameter: high and low byte, 127 and 127 for none

    def _follow(self, events: Iterable[Event]) -> None:
        self._settle(0)
        for event in events:
            tick, kind, first, second, track = event
            if kind == smf.NOTE_ON and second:
                shift = self._parameters[_COARSE_TUNING][0] - 64 + self._key_shift + self._part_shift
                self._open[track, first].append(Struck(tick, None, first, second, shift))
            elif kind in (smf.NOTE_ON, smf.NOTE_OFF):
                waiting = self._open.get((track, first))
                if waiting:
                    self.notes[track].append(waiting.popleft()._replace(end=tick))
                else:
                    self.unmatched_offs += 1
            elif kind == smf.CONTROL:
                self._control(tick, first, second)
            elif kind == smf.BEND:
                self._bend = first | second << 7
                self._settle(tick)
            elif kind >= _RESET:
                self._exclusive(tick, kind, second)
        for (track, _), waiting in self._open.items():
            self.notes[track].extend(waiting)

    def _control(self, tick: int, number: int, value: int) -> None:
        if number not in _FOLLOWED_HERE:
            self._pass_on(tick, number, value)
            return
        if number == VOLUME:
            self._volume = value
        elif number == EXPRESSION:
            self._expression = value
        elif number == BALANCE:
            self._balance = value
        elif number in (SUSTAIN, SOSTENUTO):
            self._pedal(tick, number, value >= 64)
        elif number in (RPN, RPN_LSB):
            self._chosen[number == RPN_LSB] = value
        elif number in (NRPN, NRPN_LSB):
            self._chosen = [127, 127]  # what other parameters do is the maker's affair
        elif number in (DATA, DATA_LSB, INCREMENT, DECREMENT):
            self._data(number, value)
        elif number == RESET_CONTROLLERS:
            self._reset_controllers(tick)
        elif number >= NOTES_OFF:
            self._end_notes(tick)
        self._settle(tick)

    def _pass_on(self, tick: int, number: int, value: int) -> None:
        self._passed_on[number] = value
        self.steering.controls.append(Control(tick, smf.CONTROL, number, value))
        if number == SOUND_OFF:
            self._end_notes(tick)
            self.steering.silences.append(tick)

    def _pedal(self, tick: int, number: int, down: bool) -> None:
        moves = self.steering.sustain if number == SUSTAIN else self.steering.sostenuto
        if down != (bool(moves) and moves[-1].down):
            moves.append(Pedal(tick, down))

    def _data(self, number: int, value: int) -> None:
        parameter = self._parameters.get(self._chosen[1]) if self._chosen[0] == 0 else None
        if parameter is None:
            return
        if number in (DATA, DATA_LSB):
            parameter[number == DATA_LSB] = value
            return
        step = 1 if number == INCREMENT else -1
        if self._chosen[1] == _COARSE_TUNING:
            parameter[0] = min(127, max(0, parameter[0] + step))
        else:
            base = 100 if self._chosen[1] == _BEND_RANGE else 128  # cents make up the lower byte of a range (RP-018)
            parameter[:] = divmod(min(128 * base - 1, max(0, parameter[0] * base + parameter[1] + step)), base)

    def _reset_controllers(self, tick: int) -> None:
        """RP-015: volume, pan, balance, bank, program, effects, sound controllers and parameter values stay."""
        self._expression, self._bend, self._chosen = 127, 8192, [127, 127]
        for pedal in (SUSTAIN, SOSTENUTO):
            self._pedal(tick, pedal, False)
        for number in (MODULATION, PORTAMENTO, SOFT):
            if self._passed_on.get(number):
                self._pass_on(tick, number, 0)

    def _end_notes(self, tick: int) -> None:
        for (track, _), waiting in self._open.items():
            self.notes[track].extend(note._replace(end=tick) for note in waiting)
        self._open.clear()

    def _exclusive(self, tick: int, kind: int, value: int) -> None:
        if kind == _RESET:
            self._end_notes(tick)
            self._reset_controllers(tick)
            self._defaults()
            for number, was in list(self._passed_on.items()):
                default = 64 if number in _CENTRED else 0
                if was != default and number != SOUND_OFF:
                    self._pass_on(tick, number, default)
        elif kind == _MASTER_VOLUME:
            self._master_volume = value
        elif kind == _MASTER_BALANCE:
            self._master_balance = value
        elif kind == _MASTER_TUNING:
            self._master_tuning = value
        elif kind == _KEY_SHIFT:
            self._key_shift = value
        elif kind == _PART_SHIFT:
            self._part_shift = value
        elif kind == _BEND_RANGE_SET:
            self._parameters[_BEND_RANGE] = [value, 0]
        self._settle(tick)

    def _settle(self, tick: int) -> None:
        """Note how loud and at which pitch the channel is now, where that changed."""
        loud = amplitude(self._volume) * amplitude(self._expression) * amplitude(self._master_volume)
        left = right = loud
        for balance in (self._balance, self._master_balance):
            left *= min(1.0, (127 - balance) / 63)
            right *= min(1.0, balance / 64)
        if (left, right) != self._level:
            self._level = left, right
            levels = self.steering.levels
            if levels and levels[-1].tick == tick:  # of several at one tick the last holds
                levels.pop()
            levels.append(Level(tick, left, right))
        reach = self._parameters[_BEND_RANGE][0] + self._parameters[_BEND_RANGE][1] / 100
        fine = (self._parameters[_FINE_TUNING][0] << 7 | self._parameters[_FINE_TUNING][1]) / 8192 - 1
        bend = (self._bend - 8192) / (8191 if self._bend > 8192 else 8192)
        semitones = bend * reach + fine + self._master_tuning / 1000
        if semitones != self._semitones:
            self._semitones = semitones
            self.steering.pitches.append(PitchOffset(tick, semitones))
