"""A song out of a MIDI file: notes as columns, who plays them, what steers them, tempo map, meters, and what is wrong.

A *part* is what one player plays: one track, channel and program (with its bank), or drums. It becomes one stem. So two
tracks of the same program stay two, a program change inside a track makes two parts, and drums are never a piano.

Channel state (controllers, bends, banks) belongs to a channel and crosses the tracks of a file (`channels.py`).
Programs do, too; but where several tracks on a channel choose programs, each keeps its own, as arrangers mean it.

Only what is heard is a note of the song: what a channel plays at volume or expression 0 is counted and left out.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luthier_music.instruments import Instrument, instrument
from luthier_rendering import smf
from luthier_rendering.channels import DRUM_SOUND, UNENDED, Pedal, Steering, follow
from luthier_rendering.smf import MetaEvent, MidiLimits, Smf, Track, read_smf, refuse, within
from luthier_rendering.streams import NEVER, streams

FAULTS: Final = {
    "UNMATCHED_NOTES": "notes that do not start or do not end were left out",
    "ZERO_LENGTH_NOTES": "notes of no length were left out",
    "SILENT_NOTES": "notes that are played at volume or expression 0 were left out",
    "TEMPO_IS_DEFAULT": "no tempo is stated: 120 BPM is only the format's default",
    "KEY_SIGNATURE_IS_A_CLAIM": "a key signature is stated: a claim, mostly a default, that the notes may contradict",
    "KEY_SIGNATURE_INVALID": "a key signature has no meaning and was ignored",
    "METER_INVALID": "a time signature is outside 1..64 beats of 1..1/64 and was ignored",
    "NO_END_OF_TRACK": "tracks end without an end-of-track event",
    "TRAILING_BYTES": "bytes follow the last track and were ignored",
    "RUNNING_STATUS_INTERRUPTED": "running status goes on after a meta event or system exclusive",
    "DATA_BYTE_INVALID": "data bytes above 127 were read as 127",
    "STRAY_STATUS": "messages that have no place in a file, such as active sensing, were stepped over",
    "RMID_WRAPPER": "the file is wrapped in RIFF (RMID); what else the wrapper holds was ignored",
}
"""What may be wrong with a file that is read all the same."""

_DEFAULT_US_PER_BEAT: Final = 500_000  # 120 BPM, what a file without a tempo means
MAX_TEMPO_BPM: Final = 1000.0
_NAME_BYTES: Final = 200
_MAJOR: Final = ["Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#"]
_MINOR: Final = ["Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#"]


class Meter(NamedTuple):
    """From `tick` on a bar has `beats` (1..64) of 1/`unit` (1..64, a power of two)."""

    tick: int
    beats: int
    unit: int


class Player(NamedTuple):
    """Who is steered together: what a track plays on a part (0..15) of a port, mostly the channel of this number."""

    track: int
    port: int
    part: int


@dataclass(frozen=True)
class Part:
    """What one player plays on one instrument; `name` is the track's, untrusted; `bank` is the variation of the program
    that the file asks for, 0 for none."""

    player: Player
    instrument: Instrument
    name: str
    bank: int = 0


@dataclass(frozen=True)
class Notes:
    """Columns of equal length [n], by start tick: when, what, how loud (velocity 1..127), and whose (part index); then
    when the pedals let it end (NEVER where one is never lifted), between which ticks it is heard, with the pedals and
    where its level is not 0, and which key its bend and tuning make of it."""

    start_tick: NDArray[np.int64]
    end_tick: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    part: NDArray[np.int64]
    release_tick: NDArray[np.int64]
    heard_from_tick: NDArray[np.int64]
    heard_to_tick: NDArray[np.int64]
    heard_pitch: NDArray[np.int64]

    def __len__(self) -> int:
        return self.start_tick.size

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Notes":
        """Those that are chosen [n], or at these places."""
        return Notes(*(column[chosen] for column in vars(self).values()))


@dataclass(frozen=True)
class TempoMap:
    """From `ticks[i]` (the first is 0) on, which is at `seconds[i]`, a beat lasts `us_per_beat[i]` microseconds: whole
    ones in a file."""

    ticks_per_beat: int
    ticks: NDArray[np.int64]
    seconds: NDArray[np.float64]
    us_per_beat: NDArray[np.float64]

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
    `steering` holds what steers each player. `faults` counts what FAULTS names.
    """

    format: int
    tracks: int
    tempo: TempoMap
    tempo_is_default: bool
    meters: tuple[Meter, ...]
    claimed_key: str
    parts: tuple[Part, ...]
    notes: Notes
    steering: dict[Player, Steering]
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
    faults = file.faults + Counter(
        NO_END_OF_TRACK=sum(not track.ended for track in file.tracks), TRAILING_BYTES=int(file.trailing_bytes > 0)
    )
    metas = sorted((meta for track in file.tracks for meta in track.metas), key=lambda meta: meta.tick)
    tempo, tempo_is_default = _tempo_map(file.ticks_per_beat, metas, faults, limits.tempos)
    meters, key = _meters(metas, faults, limits.bars), _claimed_key(metas, faults)
    notes, parts, steering = _play(file, limits, faults)
    song = Song(file.format, len(file.tracks), tempo, tempo_is_default, meters, key, parts, notes, steering, faults)
    within("MIDI_TOO_LONG", "seconds", song.music_end_s, limits.duration_s)
    within("MIDI_TOO_MUCH_WORK", "seconds times stems", song.music_end_s * len(parts), limits.stem_s)
    return song


def _tempo_map(ticks_per_beat: int, metas: list[MetaEvent], faults: Counter[str], bound: int) -> tuple[TempoMap, bool]:
    """The map, and whether no tempo is stated. Of several tempos at one tick the last holds; repeats are dropped."""
    steps = {0: _DEFAULT_US_PER_BEAT}
    stated = [meta for meta in metas if meta.kind == smf.META_TEMPO]
    for tick, _, data in stated:
        us = int.from_bytes(data, "big")
        if len(data) != 3:
            refuse("MIDI_BAD_TEMPO", f"the tempo event at tick {tick} holds {len(data)} bytes: it must hold 3")
        if us < 60e6 / MAX_TEMPO_BPM:
            tempo = f"{60e6 / us:.0f} BPM" if us else "0 microseconds per beat"
            refuse("MIDI_BAD_TEMPO", f"the tempo at tick {tick} is {tempo}: it must be 3.6 to {MAX_TEMPO_BPM:g} BPM")
        steps[tick] = us
    faults["TEMPO_IS_DEFAULT"] += not stated
    ordered = sorted(steps.items())
    kept = [ordered[0], *(after for before, after in pairwise(ordered) if before[1] != after[1])]
    within("MIDI_TOO_MANY_TEMPOS", "changes of tempo", len(kept), bound)
    ticks, us_per_beat = np.array(kept, dtype=np.int64).T
    lengths_s = np.diff(ticks) * us_per_beat[:-1] / (1e6 * ticks_per_beat)
    seconds = np.concatenate([[0.0], np.cumsum(lengths_s)])
    return TempoMap(ticks_per_beat, ticks, seconds, us_per_beat.astype(np.float64)), not stated


def _meters(metas: list[MetaEvent], faults: Counter[str], bound: int) -> tuple[Meter, ...]:
    meters = {0: Meter(0, 4, 4)}
    for tick, kind, data in metas:
        if kind == smf.META_METER:
            if len(data) < 2 or not 1 <= data[0] <= 64 or data[1] > 6:
                faults["METER_INVALID"] += 1
            else:
                meters[tick] = Meter(tick, data[0], 2 ** data[1])
    ordered = [meters[tick] for tick in sorted(meters)]
    kept = (ordered[0], *(after for before, after in pairwise(ordered) if before[1:] != after[1:]))
    within("MIDI_TOO_MANY_BARS", "changes of meter", len(kept), bound)
    return kept


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


def _play(
    file: Smf, limits: MidiLimits, faults: Counter[str]
) -> tuple[Notes, tuple[Part, ...], dict[Player, Steering]]:
    """The notes, the parts in order of first appearance in the file, and what steers each player that has notes."""
    ports = [int.from_bytes(_first_meta(track, smf.META_PORT)[:1], "big") for track in file.tracks]
    names = [_text(_first_meta(track, smf.META_TRACK_NAME)[:_NAME_BYTES]) for track in file.tracks]
    steering: list[Steering] = []
    played: list[tuple[int, int]] = []  # ports and parts, as steering
    rows: list[NDArray[np.int64]] = []  # start, end, pitch, velocity, sound with bank, track, index in played
    for key, stream in streams(file, ports, limits).items():
        followed = follow(stream, key[1])
        struck = followed.notes
        faults["UNMATCHED_NOTES"] += followed.unmatched.total()
        is_drum = struck.sound >= DRUM_SOUND
        unended, empty = struck.end == UNENDED, struck.end == struck.start
        faults["UNMATCHED_NOTES"] += int((unended & ~is_drum).sum())
        faults["ZERO_LENGTH_NOTES"] += int((empty & ~is_drum).sum())
        # drums sound when struck, whatever ends them (RP-003)
        end = np.where(unended | empty, struck.start + (file.ticks_per_beat // 8 or 1), struck.end)
        pitch = np.where(is_drum, struck.pitch, np.clip(struck.pitch + struck.shift, 0, 127))
        index = np.full(end.size, len(played))
        sound = struck.sound << 7 | struck.bank
        found = np.stack([struck.start, end, pitch, struck.velocity, sound, struck.track, index])
        rows.append(found[:, is_drum | ~(unended | empty)])
        steering.append(followed.steering)
        played.append(key)
    if not any(row.size for row in rows):
        refuse("MIDI_NO_NOTES", "the file holds no note that starts and ends")
    start, end, pitch, velocity, sound, track, index = np.concatenate(rows, axis=1)
    players, player = np.unique(track * len(played) + index, return_inverse=True)
    groups, part = np.unique(player << 15 | sound, return_inverse=True)
    within("MIDI_TOO_MANY_STEMS", "stems", groups.size, limits.stems)
    player_of, track_of = groups >> 15, players[groups >> 15] // len(played)
    index_of = players[player_of] % len(played)
    order = np.lexsort((_earliest(start, part), index_of, _earliest(start, player)[player_of], track_of))
    parts = [
        Part(
            Player(int(track_of[at]), *played[index_of[at]]),
            instrument(int(groups[at]) >> 7 & 127, is_drum=bool(groups[at] >> 7 & DRUM_SOUND)),
            names[track_of[at]],
            int(groups[at]) & 127,
        )
        for at in order.tolist()
    ]
    steers = {one.player: steering[index_of[at]] for at, one in zip(order.tolist(), parts, strict=True)}
    notes, kept = _heard(np.stack([start, end, pitch, velocity, np.argsort(order)[part]]), parts, steers, faults)
    return notes, kept, {one.player: steers[one.player] for one in kept}


def _earliest(start: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first start [groups] of the notes [n] of each group 0..groups-1."""
    found = np.full(group.max() + 1, NEVER)
    np.minimum.at(found, group, start)
    return found


def _heard(
    rows: NDArray[np.int64], parts: list[Part], steering: dict[Player, Steering], faults: Counter[str]
) -> tuple[Notes, tuple[Part, ...]]:
    """The notes that are heard, of rows [5, n] as the first columns of Notes, and the parts that have some.

    A note whose level is 0 for as long as it sounds is left out; of one that is heard for a while, it is noted from
    when to when. What a pedal holds is heard until the music ends at most: what rings on after it is the song's tail.
    """
    start, end, pitch, _, part = rows
    release, heard_from, heard_to, heard_pitch = end.copy(), start.copy(), end.copy(), pitch.copy()
    played: dict[tuple[Player, Instrument], list[int]] = {}  # a variation of an instrument is the same one played on
    for index, one in enumerate(parts):
        played.setdefault((one.player, one.instrument), []).append(index)
    for (player, who), indexes in played.items():
        mine, steers = np.flatnonzero(np.isin(part, indexes)), steering[player]
        if not who.is_drum:
            release[mine] = _released(start[mine], end[mine], pitch[mine], steers)
            heard_to[mine] = np.minimum(release[mine], end.max())
            middle = (start[mine] + end[mine]) // 2
            offsets = np.concatenate([[0.0], steers.pitches.semitones])
            offset = offsets[np.searchsorted(steers.pitches.tick, middle, side="right")]
            heard_pitch[mine] = np.rint(pitch[mine] + offset)
        begins, ends = (np.append(ticks, NEVER) for ticks in steers.audible)
        following = np.searchsorted(ends, start[mine], side="right")  # the first span that ends after the start
        latest = np.searchsorted(begins, heard_to[mine], side="left") - 1  # the last one that begins before the end
        heard_from[mine] = np.maximum(start[mine], begins[following])
        heard_to[mine] = np.where(latest >= 0, np.minimum(heard_to[mine], ends[latest]), start[mine])
    audible = heard_from < heard_to
    faults["SILENT_NOTES"] += int((~audible).sum())
    if not audible.any():
        refuse("MIDI_SILENT", "every note of the file is played at volume 0")
    kept = sorted(set(part[audible].tolist()))
    renumbered = np.zeros(len(parts), dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    columns = np.stack([*rows[:4], renumbered[part], release, heard_from, heard_to, heard_pitch])[:, audible]
    order = np.lexsort(columns[4::-1])  # by start, then by the other columns
    return Notes(*columns[:, order]), tuple(parts[index] for index in kept)


def _released(
    start: NDArray[np.int64], end: NDArray[np.int64], pitch: NDArray[np.int64], steering: Steering
) -> NDArray[np.int64]:
    """When the notes [n] of one part end with the pedals, in ticks: NEVER where one never comes up.

    A note whose key goes up while the sustain pedal is down ends when the pedal comes up or its key is struck again;
    one whose key is down when the sostenuto pedal goes down ends no earlier than that pedal comes up.
    """
    if not (steering.sustain.down.any() or steering.sostenuto.down.any()):
        return end
    ticks, down, ups = _moves(steering.sostenuto)
    pressed = np.append(ticks[down], NEVER)
    latest = (
        np.searchsorted(pressed, end, side="left") - 1
    )  # the last time before the key went up: its lift is the last
    held = (latest >= 0) & (pressed[latest] >= start)
    until = np.where(held, np.maximum(end, _next(ups, pressed[latest])), end)
    ticks, down, ups = _moves(steering.sustain)
    state = np.searchsorted(ticks, until, side="right") - 1  # the move in force when the note is let go
    until = np.where((state >= 0) & down[state], _next(ups, until), until)
    order = np.lexsort((start, pitch))
    again = pitch[order[:-1]] == pitch[order[1:]]
    until[order[:-1][again]] = np.minimum(until[order[:-1][again]], start[order[1:][again]])
    silences = np.append(steering.silences, NEVER)
    until = np.minimum(until, silences[np.searchsorted(silences, end, side="left")])
    released: NDArray[np.int64] = np.maximum(until, end)
    return released


def _moves(pedal: Pedal) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Ticks of a pedal's moves, whether each presses it, and the ticks at which it comes up, the last one never."""
    ticks, down = np.append(pedal.tick, NEVER), np.append(pedal.down, False)
    return ticks, down, ticks[~down]


def _next(ticks: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each tick [n] the next one in `ticks`, which ends with NEVER."""
    found: NDArray[np.int64] = ticks[np.minimum(np.searchsorted(ticks, after, side="right"), ticks.size - 1)]
    return found


def _first_meta(track: Track, kind: int) -> bytes:
    return next((meta.data for meta in track.metas if meta.kind == kind), b"")


def _text(data: bytes) -> str:
    """A name as UTF-8 or, as most old files are, Latin-1; without control characters."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return "".join(char for char in text if char.isprintable()).strip()
