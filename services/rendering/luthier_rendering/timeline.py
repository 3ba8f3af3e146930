"""Who plays when, and bar by bar what: the facts that the notes prove, in seconds on the mix's clock."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.instruments import Instrument, instrument
from luthier_rendering.limits import MidiLimits, within
from luthier_rendering.midi import Notes, Song
from luthier_rendering.tempo_map import TempoMap

TAIL_S: Final = 3.0  # what instruments may ring on after the last note
GAP_S: Final = 1.0  # rests up to this long do not end an activity span
_GRID_BEATS: Final = np.array([0, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1])  # sixteenths and eighth triplets
_GRID_TOLERANCE_BEATS: Final = 1 / 48

Span = tuple[float, float]  # start and end in seconds


@dataclass(frozen=True)
class Bar:
    """Twelve weights (seconds times velocity / 127, C first, no drums); onsets with drums, those on the grid."""

    span_s: Span
    pitch_class_weights: tuple[float, ...]
    onsets: int
    onsets_on_grid: int


@dataclass(frozen=True)
class Activity:
    """Ordered, disjoint spans in which the notes of an instrument sound, and how many notes."""

    instrument: Instrument
    spans_s: tuple[Span, ...]
    notes: int


@dataclass(frozen=True)
class Timeline:
    """`duration_s` is the audio's length: the music and its tail. Tempos and meters start at 0 s."""

    duration_s: float
    tempos: tuple[tuple[float, float], ...]
    meters: tuple[tuple[float, int, int], ...]
    bars: tuple[Bar, ...]
    instruments: tuple[Activity, ...]
    tempo_is_default: bool
    claimed_key: str


def timeline(song: Song, limits: MidiLimits | None = None) -> Timeline:
    """The timeline of a song. InvalidRequest MIDI_TOO_MANY_BARS beyond the bound."""
    limits = limits or MidiLimits()
    tempo, claims = song.tempo, song.claims
    starts = tempo.to_seconds([tick for tick, _, _ in claims.meters])
    return Timeline(
        duration_s=song.music_end_s + TAIL_S,
        tempos=tuple(zip(tempo.seconds.tolist(), tempo.tempos_bpm.tolist(), strict=True)),
        meters=tuple((float(s), n, d) for s, (_, n, d) in zip(starts, claims.meters, strict=True)),
        bars=_bars(song, _bar_edges(song, limits.bars)),
        instruments=_activities(song),
        tempo_is_default=claims.tempo_is_default,
        claimed_key=claims.key,
    )


def part_activity(song: Song, index: int) -> Activity:
    """When one part plays."""
    mine = song.notes.of(song.notes.part == index)
    return Activity(song.parts[index].instrument, _spans(mine, song.tempo), len(mine))


def _activities(song: Song) -> tuple[Activity, ...]:
    """One per instrument, all its parts together (and all drum kits), in order of first note."""
    keys = np.array([128 if part.instrument.is_drum else part.instrument.program for part in song.parts])
    of_note = keys[song.notes.part]
    kinds, first = np.unique(of_note, return_index=True)
    found = []
    for key in kinds[np.argsort(first, kind="stable")].tolist():
        mine = song.notes.of(of_note == key)
        who = instrument(0, is_drum=True) if key == 128 else instrument(key)
        found.append(Activity(who, _spans(mine, song.tempo), len(mine)))
    return tuple(found)


def _spans(notes: Notes, tempo: TempoMap) -> tuple[Span, ...]:
    """Notes (ordered by start) merged over gaps up to GAP_S."""
    starts, ends = tempo.to_seconds(notes.start_tick), np.maximum.accumulate(tempo.to_seconds(notes.end_tick))
    breaks = np.flatnonzero(starts[1:] > ends[:-1] + GAP_S)
    firsts, lasts = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [starts.size - 1]])
    return tuple(zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True))


def _bar_edges(song: Song, bound: int) -> NDArray[np.int64]:
    """Ticks at which bars start and end, through the last note; a new meter starts a new bar."""
    end, edges, count, last = int(song.notes.end_tick.max()), [], 0, 0
    meters = song.claims.meters
    stops = [min(tick, end) for tick, _, _ in meters[1:]] + [end]
    for (tick, numerator, denominator), stop in zip(meters, stops, strict=True):
        length = max(1, song.tempo.ticks_per_beat * 4 * numerator // denominator)
        bars = max(0, -(-(stop - tick) // length))
        count += bars
        within("MIDI_TOO_MANY_BARS", "bars", count, bound)
        edges.append(np.arange(tick, stop, length, dtype=np.int64))
        last = tick + bars * length if bars else last
    return np.append(np.concatenate(edges), last)


def _bars(song: Song, edges: NDArray[np.int64]) -> tuple[Bar, ...]:
    notes, seconds = song.notes, song.tempo.to_seconds(edges)
    onsets, _ = np.histogram(notes.start_tick, edges)
    on_grid, _ = np.histogram(notes.start_tick[_on_grid(notes, song.tempo)], edges)
    weights = _pitch_class_weights(song, seconds)
    return tuple(
        Bar((float(start), float(end)), tuple(row.tolist()), int(count), int(hits))
        for start, end, row, count, hits in zip(seconds, seconds[1:], weights, onsets, on_grid, strict=False)
    )


def _on_grid(notes: Notes, tempo: TempoMap) -> NDArray[np.bool_]:
    """Whether each onset is within 1/48 beat of a sixteenth or an eighth triplet (by chance 25 % are)."""
    phase = (notes.start_tick % tempo.ticks_per_beat) / tempo.ticks_per_beat
    return np.abs(phase[:, np.newaxis] - _GRID_BEATS).min(axis=1) <= _GRID_TOLERANCE_BEATS


def _pitch_class_weights(song: Song, edges_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [bars, 12]: the difference of the cumulative weight at the bars' edges, whatever notes overlap."""
    pitched = song.notes.of(~song.is_drum)
    starts, ends = song.tempo.to_seconds(pitched.start_tick), song.tempo.to_seconds(pitched.end_tick)
    columns = []
    for pitch_class in range(12):
        mine = pitched.pitch % 12 == pitch_class
        loud = pitched.velocity[mine] / 127.0
        columns.append(np.diff(_ramp(starts[mine], loud, edges_s) - _ramp(ends[mine], loud, edges_s)))
    weights = np.stack(columns, axis=1)
    return np.where(weights > 1e-9, weights, 0.0)


def _ramp(times: NDArray[np.float64], slopes: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over i of slopes[i] * max(0, at - times[i]), for each `at`."""
    order = np.argsort(times)
    passed = np.searchsorted(times[order], at, side="right")
    slope = np.concatenate([[0.0], np.cumsum(slopes[order])])[passed]
    offset = np.concatenate([[0.0], np.cumsum(slopes[order] * times[order])])[passed]
    return slope * at - offset
