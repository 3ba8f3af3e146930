"""A song out of a MIDI file: notes as columns, parts, controls, tempo map, meters, and what is wrong with it.

A *part* is what one player plays: one track, channel and program, or drums. It becomes one stem. So two tracks
of the same program stay two, a program change inside a track makes two parts, and drums are never a piano.

Channel state (program, controllers, bends) belongs to a channel, but arrangers write it per track: a track is
steered by its own events of each kind on the channel, and by everybody's on that channel where it has none.
"""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from luthier_music.instruments import Instrument, instrument
from luthier_rendering import smf
from luthier_rendering.limits import MidiLimits, refuse, within
from luthier_rendering.meta import Claims, read_claims
from luthier_rendering.tempo_map import TempoMap

DRUM_CHANNEL = 9  # the tenth, counted from 0
_DRUM_BANKS = (120, 127)  # bank select MSB of General MIDI 2 and of XG
_BANK_MSB = 0

Control = tuple[int, int, int, int]  # tick, kind (smf.CONTROL or smf.BEND), first and second data byte
Player = tuple[int, int, int]  # track, port, channel


@dataclass(frozen=True)
class Part:
    """What one player plays; `name` is the track's, untrusted."""

    track: int
    port: int
    channel: int
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
        return Notes(*(column[chosen] for column in vars(self).values()))


@dataclass(frozen=True)
class Song:
    """A MIDI file that can be rendered: at least one note, within all bounds."""

    format: int
    tracks: int
    tempo: TempoMap
    claims: Claims
    parts: tuple[Part, ...]
    notes: Notes
    controls: dict[Player, list[Control]]
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def music_end_s(self) -> float:
        """When the last note ends."""
        return float(self.tempo.to_seconds(self.notes.end_tick.max()))

    @property
    def is_drum(self) -> NDArray[np.bool_]:
        """Whether each note is a drum's [n]."""
        return np.array([part.instrument.is_drum for part in self.parts])[self.notes.part]


def load_song(data: bytes, limits: MidiLimits | None = None) -> Song:
    """Read a MIDI file. InvalidRequest with a MIDI_* reason for anything malformed, beyond a bound, or silent."""
    limits = limits or MidiLimits()
    file = smf.read_smf(data, limits)
    faults: Counter[str] = Counter()
    claims = read_claims(file, faults)
    reader = _Reader(file, claims, faults)
    rows, parts = reader.notes(limits)
    if not rows:
        refuse("MIDI_NO_NOTES", "the file holds no note that starts and ends")
    notes = Notes(*np.array(sorted(rows), dtype=np.int64).T)
    song = Song(file.format, len(file.tracks), claims.tempo, claims, parts, notes, reader.controls(), faults)
    within("MIDI_TOO_LONG", "seconds", song.music_end_s, limits.duration_s)
    within("MIDI_TOO_MUCH_WORK", "seconds times stems", song.music_end_s * len(parts), limits.stem_s)
    return song


class _Reader:
    """Walks a file's channel events with the state that each player's channel is in."""

    def __init__(self, file: smf.Smf, claims: Claims, faults: Counter[str]) -> None:
        self._file, self._claims, self._faults = file, claims, faults
        self._steering: dict[tuple[int, int], dict[int, list[Control]]] = defaultdict(dict)
        self._programs: dict[tuple[int, int], dict[int, list[Control]]] = defaultdict(dict)
        for number, track in enumerate(file.tracks):
            self._collect(number, track)

    def _collect(self, number: int, track: smf.Track) -> None:
        port = self._claims.ports[number]
        for event in track.channel_events:
            kind, channel = event[1] & 0xF0, (port, event[1] & 0x0F)
            is_bank = kind == smf.CONTROL and event[2] == _BANK_MSB
            if kind == smf.PROGRAM or is_bank:
                self._programs[channel].setdefault(number, []).append((event[0], kind, event[2], event[3]))
            elif kind in (smf.CONTROL, smf.BEND):
                self._steering[channel].setdefault(number, []).append((event[0], kind, event[2], event[3]))

    def notes(self, limits: MidiLimits) -> tuple[list[tuple[int, int, int, int, int]], tuple[Part, ...]]:
        """Rows of `Notes` and the parts, in order of first appearance in the file."""
        rows: list[tuple[int, int, int, int, int]] = []
        parts: dict[Part, int] = {}
        for number, track in enumerate(self._file.tracks):
            for channel, paired in self._pairs(track).items():
                player = (number, self._claims.ports[number], channel)
                for part, note in self._assigned(player, paired):
                    rows.append((*note, parts.setdefault(part, len(parts))))
                within("MIDI_TOO_MANY_STEMS", "stems", len(parts), limits.stems)
        self._players = {(part.track, part.port, part.channel) for part in parts}
        return rows, tuple(parts)

    def controls(self) -> dict[Player, list[Control]]:
        """What steers each player that has notes, in order of time."""
        return {player: _steered_by(self._steering[player[1:]], player[0]) for player in self._players}

    def _pairs(self, track: smf.Track) -> dict[int, list[tuple[int, int, int, int]]]:
        """(start, end, pitch, velocity) by channel: each note-off ends the oldest open note of its key."""
        pending: dict[tuple[int, int], deque[tuple[int, int]]] = defaultdict(deque)
        done: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        for tick, status, pitch, velocity in track.channel_events:
            kind, channel = status & 0xF0, status & 0x0F
            if kind == smf.NOTE_ON and velocity:
                pending[channel, pitch].append((tick, velocity))
            elif kind in (smf.NOTE_ON, smf.NOTE_OFF):
                if not pending[channel, pitch]:
                    self._faults["UNMATCHED_NOTES"] += 1
                    continue
                start, loud = pending[channel, pitch].popleft()
                if start == tick:
                    self._faults["ZERO_LENGTH_NOTES"] += 1
                else:
                    done[channel].append((start, tick, pitch, loud))
        self._faults["UNMATCHED_NOTES"] += sum(map(len, pending.values()))
        return done

    def _assigned(
        self, player: Player, paired: list[tuple[int, int, int, int]]
    ) -> list[tuple[Part, tuple[int, int, int, int]]]:
        """Each note with the part that plays it: the program in force when it starts."""
        track, port, channel = player
        changes = _steered_by(self._programs[port, channel], track)
        at, program, bank = 0, 0, 0
        assigned, parts = [], {}
        for note in sorted(paired):
            while at < len(changes) and changes[at][0] <= note[0]:
                _, kind, first, second = changes[at]
                program, bank = (first, bank) if kind == smf.PROGRAM else (program, second)
                at += 1
            drum = channel == DRUM_CHANNEL or bank in _DRUM_BANKS
            if (program, drum) not in parts:
                name = self._claims.names[track]
                parts[program, drum] = Part(track, port, channel, instrument(program, is_drum=drum), name)
            assigned.append((parts[program, drum], note))
        return assigned


def _steered_by(by_track: dict[int, list[Control]], track: int) -> list[Control]:
    """A track's own events, else everybody's in order of time (stable, as a sequencer would merge them)."""
    if track in by_track:
        return by_track[track]
    return sorted((event for events in by_track.values() for event in events), key=lambda event: event[0])
