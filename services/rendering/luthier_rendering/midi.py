"""A song out of a MIDI file: notes as columns, who plays them, what steers them, tempo map, meters, and what is wrong.

A *part* is what one player plays: one track, channel and program, or drums. It becomes one stem. So two tracks of the
same program stay two, a program change inside a track makes two parts, and drums are never a piano.

Channel state (program, controllers, bends) belongs to a channel, but arrangers write it per track: a track is steered
by its own events of each kind on the channel, and by everybody's on that channel where it has none.
"""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luthier_music.instruments import Instrument, instrument
from luthier_rendering import smf
from luthier_rendering.smf import MetaEvent, MidiLimits, Smf, Track, read_smf, refuse, within

FAULTS: Final = {
    "UNMATCHED_NOTES": "notes that do not start or do not end were left out",
    "ZERO_LENGTH_NOTES": "notes of no length were left out",
    "TEMPO_IS_DEFAULT": "no tempo is stated: 120 BPM is only the format's default",
    "KEY_SIGNATURE_IS_A_CLAIM": "a key signature is stated: a claim, mostly a default, that the notes may contradict",
    "KEY_SIGNATURE_INVALID": "a key signature has no meaning and was ignored",
    "METER_INVALID": "a time signature is outside 1..64 beats of 1..1/64 and was ignored",
    "NO_END_OF_TRACK": "tracks end without an end-of-track event",
    "TRAILING_BYTES": "bytes follow the last track and were ignored",
}
"""What may be wrong with a file that is read all the same."""

DRUM_CHANNEL: Final = 9  # the tenth, counted from 0
_DRUM_BANKS: Final = (120, 127)  # bank select MSB of General MIDI 2 and of XG
_BANK_MSB: Final = 0  # controller number
_DEFAULT_US_PER_BEAT: Final = 500_000  # 120 BPM, what a file without a tempo means
_MAX_TEMPO_BPM: Final = 1000.0
_NAME_BYTES: Final = 200
_MAJOR: Final = ["Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#"]
_MINOR: Final = ["Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#"]


class Meter(NamedTuple):
    """From `tick` on a bar has `beats` (1..64) of 1/`unit` (1..64, a power of two)."""

    tick: int
    beats: int
    unit: int


class Control(NamedTuple):
    """What steers a player: `kind` is smf.PROGRAM, CONTROL or BEND, with its two data bytes."""

    tick: int
    kind: int
    first: int
    second: int


class Player(NamedTuple):
    """Who is steered together: a track on a channel (0..15) of a port."""

    track: int
    port: int
    channel: int


@dataclass(frozen=True)
class Part:
    """What one player plays on one instrument; `name` is the track's, untrusted."""

    player: Player
    instrument: Instrument
    name: str


@dataclass(frozen=True)
class Notes:
    """Columns of equal length [n], by start tick: when, what, how loud (velocity 1..127), and whose (part index)."""

    start_tick: NDArray[np.int64]
    end_tick: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    part: NDArray[np.int64]

    def __len__(self) -> int:
        return self.start_tick.size

    def of(self, chosen: NDArray[np.bool_]) -> "Notes":
        """Those that are chosen [n]."""
        return Notes(*(column[chosen] for column in vars(self).values()))


@dataclass(frozen=True)
class TempoMap:
    """From `ticks[i]` (the first is 0) on, which is at `seconds[i]`, a beat lasts `us_per_beat[i]` microseconds."""

    ticks_per_beat: int
    ticks: NDArray[np.int64]
    seconds: NDArray[np.float64]
    us_per_beat: NDArray[np.int64]

    def to_seconds(self, ticks: ArrayLike) -> NDArray[np.float64]:
        """Seconds of ticks (0 or more), any shape."""
        at = np.asarray(ticks, dtype=np.int64)
        piece = np.searchsorted(self.ticks, at, side="right") - 1
        seconds_per_tick = self.us_per_beat / (1e6 * self.ticks_per_beat)
        return self.seconds[piece] + (at - self.ticks[piece]) * seconds_per_tick[piece]

    @property
    def tempos_bpm(self) -> NDArray[np.float64]:
        """Quarter notes per minute from each of `ticks` on."""
        return 60e6 / self.us_per_beat


@dataclass(frozen=True)
class Song:
    """A MIDI file that can be rendered: at least one note, within all bounds.

    `meters` starts at tick 0 (4/4 where nothing is said). `claimed_key` is as written, e.g. `Eb major`, or empty.
    `controls` holds what steers each player, by time. `faults` counts what FAULTS names.
    """

    format: int
    tracks: int
    tempo: TempoMap
    tempo_is_default: bool
    meters: tuple[Meter, ...]
    claimed_key: str
    parts: tuple[Part, ...]
    notes: Notes
    controls: dict[Player, list[Control]]
    faults: Counter[str]

    @property
    def music_end_s(self) -> float:
        """When the last note ends."""
        return float(self.tempo.to_seconds(self.notes.end_tick.max()))

    @property
    def is_drum(self) -> NDArray[np.bool_]:
        """Whether each note is a drum's [n]."""
        return np.array([part.instrument.is_drum for part in self.parts])[self.notes.part]


def load_song(data: bytes, limits: MidiLimits | None = None) -> Song:
    """Read a MIDI file. InvalidRequest with a MIDI_* reason for what is malformed, beyond a bound, or without notes."""
    limits = limits or MidiLimits()
    file = read_smf(data, limits)
    faults = Counter(
        NO_END_OF_TRACK=sum(not track.ended for track in file.tracks), TRAILING_BYTES=int(file.trailing_bytes > 0)
    )
    metas = sorted((meta for track in file.tracks for meta in track.metas), key=lambda meta: meta.tick)
    tempo, tempo_is_default = _tempo_map(file.ticks_per_beat, metas, faults)
    meters, key = _meters(metas, faults), _claimed_key(metas, faults)
    notes, parts, controls = _play(file, limits, faults)
    song = Song(file.format, len(file.tracks), tempo, tempo_is_default, meters, key, parts, notes, controls, faults)
    within("MIDI_TOO_LONG", "seconds", song.music_end_s, limits.duration_s)
    within("MIDI_TOO_MUCH_WORK", "seconds times stems", song.music_end_s * len(parts), limits.stem_s)
    return song


def _tempo_map(ticks_per_beat: int, metas: list[MetaEvent], faults: Counter[str]) -> tuple[TempoMap, bool]:
    """The map, and whether no tempo is stated. Of several tempos at one tick the last holds; repeats are dropped."""
    steps = {0: _DEFAULT_US_PER_BEAT}
    stated = [meta for meta in metas if meta.kind == smf.META_TEMPO]
    for tick, _, data in stated:
        us = int.from_bytes(data[:3], "big")
        if len(data) != 3 or us < 60e6 / _MAX_TEMPO_BPM:
            tempo = f"{60e6 / us:.0f} BPM" if us else "0 microseconds per beat"
            refuse("MIDI_BAD_TEMPO", f"the tempo at tick {tick} is {tempo}: it must be 3.6 to {_MAX_TEMPO_BPM:g} BPM")
        steps[tick] = us
    faults["TEMPO_IS_DEFAULT"] += not stated
    ordered = sorted(steps.items())
    kept = [ordered[0], *(after for before, after in pairwise(ordered) if before[1] != after[1])]
    ticks, us_per_beat = np.array(kept, dtype=np.int64).T
    lengths_s = np.diff(ticks) * us_per_beat[:-1] / (1e6 * ticks_per_beat)
    seconds = np.concatenate([[0.0], np.cumsum(lengths_s)])
    return TempoMap(ticks_per_beat, ticks, seconds, us_per_beat), not stated


def _meters(metas: list[MetaEvent], faults: Counter[str]) -> tuple[Meter, ...]:
    meters = {0: Meter(0, 4, 4)}
    for tick, kind, data in metas:
        if kind == smf.META_METER:
            if len(data) < 2 or not 1 <= data[0] <= 64 or data[1] > 6:
                faults["METER_INVALID"] += 1
            else:
                meters[tick] = Meter(tick, data[0], 2 ** data[1])
    ordered = [meters[tick] for tick in sorted(meters)]
    return (ordered[0], *(after for before, after in pairwise(ordered) if before[1:] != after[1:]))


def _claimed_key(metas: list[MetaEvent], faults: Counter[str]) -> str:
    """The first key signature as written. A claim: most files say C major by default, whatever they play."""
    keys: list[str] = []
    for _, kind, data in metas:
        if kind == smf.META_KEY:
            fifths = int.from_bytes(data[:1], "big", signed=True)
            if len(data) == 2 and -7 <= fifths <= 7 and data[1] <= 1:
                keys.append(f"{_MINOR[fifths + 7]} minor" if data[1] else f"{_MAJOR[fifths + 7]} major")
            else:
                faults["KEY_SIGNATURE_INVALID"] += 1
    faults["KEY_SIGNATURE_IS_A_CLAIM"] += len(keys)
    return keys[0] if keys else ""


Steering = dict[tuple[int, int], dict[int, list[Control]]]  # by port and channel, then by track, in file order


def _play(
    file: Smf, limits: MidiLimits, faults: Counter[str]
) -> tuple[Notes, tuple[Part, ...], dict[Player, list[Control]]]:
    """The notes, the parts in order of first appearance in the file, and what steers each player that has notes."""
    ports = [int.from_bytes(_first_meta(track, smf.META_PORT)[:1], "big") for track in file.tracks]
    controls: Steering = defaultdict(dict)
    programs: Steering = defaultdict(dict)
    for number, track in enumerate(file.tracks):
        for tick, kind, channel, first, second in track.channel_events.rows():
            if kind in (smf.PROGRAM, smf.CONTROL, smf.BEND):
                chooses_sound = kind == smf.PROGRAM or (kind == smf.CONTROL and first == _BANK_MSB)
                steering = (programs if chooses_sound else controls)[ports[number], channel]
                steering.setdefault(number, []).append(Control(tick, kind, first, second))
    rows: list[tuple[int, ...]] = []  # as the columns of Notes
    parts: dict[Part, int] = {}
    for number, track in enumerate(file.tracks):
        name = _text(_first_meta(track, smf.META_TRACK_NAME)[:_NAME_BYTES])
        for channel, paired in _paired(track, faults).items():
            player = Player(number, ports[number], channel)
            changes = _steered_by(programs, player)
            indices: dict[tuple[int, bool], int] = {}
            at, program, bank = 0, 0, 0  # the next change; the program and bank in force when a note starts
            for note in sorted(paired):
                while at < len(changes) and changes[at].tick <= note[0]:
                    change = changes[at]
                    program, bank = (change.first, bank) if change.kind == smf.PROGRAM else (program, change.second)
                    at += 1
                sound = program, channel == DRUM_CHANNEL or bank in _DRUM_BANKS
                if sound not in indices:
                    part = Part(player, instrument(program, is_drum=sound[1]), name)
                    indices[sound] = parts.setdefault(part, len(parts))
                rows.append((*note, indices[sound]))
            within("MIDI_TOO_MANY_STEMS", "stems", len(parts), limits.stems)
    if not rows:
        refuse("MIDI_NO_NOTES", "the file holds no note that starts and ends")
    columns = np.array(rows, dtype=np.int64).T
    notes = Notes(*columns[:, np.lexsort(columns[::-1])])  # by start, then by the other columns
    return notes, tuple(parts), {part.player: _steered_by(controls, part.player) for part in parts}


def _paired(track: Track, faults: Counter[str]) -> dict[int, list[tuple[int, int, int, int]]]:
    """(start tick, end tick, pitch, velocity) by channel: each note-off ends the oldest open note of its key."""
    pending: dict[tuple[int, int], deque[tuple[int, int]]] = defaultdict(deque)
    done: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
    for tick, kind, channel, pitch, velocity in track.channel_events.rows():
        if kind == smf.NOTE_ON and velocity:
            pending[channel, pitch].append((tick, velocity))
        elif kind in (smf.NOTE_ON, smf.NOTE_OFF):
            if not pending[channel, pitch]:
                faults["UNMATCHED_NOTES"] += 1
                continue
            start_tick, loud = pending[channel, pitch].popleft()
            if start_tick == tick:
                faults["ZERO_LENGTH_NOTES"] += 1
            else:
                done[channel].append((start_tick, tick, pitch, loud))
    faults["UNMATCHED_NOTES"] += sum(map(len, pending.values()))
    return done


def _steered_by(events: Steering, player: Player) -> list[Control]:
    """A track's own events, else everybody's on its channel by time (stable, as a sequencer would merge them)."""
    by_track = events[player.port, player.channel]
    if player.track in by_track:
        return by_track[player.track]
    return sorted((event for own in by_track.values() for event in own), key=lambda event: event.tick)


def _first_meta(track: Track, kind: int) -> bytes:
    return next((meta.data for meta in track.metas if meta.kind == kind), b"")


def _text(data: bytes) -> str:
    """A name as UTF-8 or, as most old files are, Latin-1; without control characters."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return "".join(char for char in text if char.isprintable()).strip()
