"""Who plays when, and bar by bar what: the facts that the notes prove, in seconds on the mix's clock."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier.common.v1.common_pb2 import Bar, InstrumentActivity, MeterChange, Span, TempoChange, Timeline
from luthier_music.instruments import Instrument, instrument
from luthier_rendering.midi import Notes, Song, TempoMap
from luthier_rendering.smf import MidiLimits, within

TAIL_S: Final = 3.0  # what instruments may ring on after the last note
GAP_S: Final = 1.0  # rests up to this long do not end an activity span
_GRID_BEATS: Final = np.array([0, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1])  # sixteenths and eighth triplets
_GRID_TOLERANCE_BEATS: Final = 1 / 48
DRUM_STROKE_S: Final = 0.25  # that a stroke is heard at least: it rings, however short its note is written
_DRUMS: Final = 128  # in place of a program


def timeline(song: Song, limits: MidiLimits | None = None, silent: Sequence[int] = ()) -> Timeline:
    """The timeline of a song; tempos and meters start at 0 s, the duration is the audio's: the music and its tail.

    `silent` are parts that were played and gave no sound (drum keys without a sample): they are not named, and their
    notes tell nothing. InvalidRequest MIDI_TOO_MANY_BARS beyond the bound.
    """
    tempo = song.tempo
    edges = bar_edges(song, (limits or MidiLimits()).bars)
    heard = replace(song, notes=song.notes.of(~np.isin(song.notes.part, silent))) if silent else song
    meter_starts = tempo.to_seconds([meter.tick for meter in song.meters]).tolist()
    return Timeline(
        duration_s=song.music_end_s + TAIL_S,
        tempos=[
            TempoChange(start_s=start, tempo_bpm=bpm)
            for start, bpm in zip(tempo.seconds.tolist(), tempo.tempos_bpm.tolist(), strict=True)
        ],
        meters=[
            MeterChange(start_s=start, numerator=meter.beats, denominator=meter.unit)
            for start, meter in zip(meter_starts, song.meters, strict=True)
        ],
        bars=_bars(heard, edges),
        instruments=_activities(heard),
        tempo_is_default=song.tempo_is_default,
        claimed_key=song.claimed_key,
    )


def part_activity(song: Song, index: int) -> InstrumentActivity:
    """When one part plays."""
    return _activity(song.parts[index].instrument, song.notes.of(song.notes.part == index), song.tempo)


def _activities(song: Song) -> list[InstrumentActivity]:
    """One per instrument, all its parts together (and all drum kits), in order of first note."""
    programs = np.array([_DRUMS if part.instrument.is_drum else part.instrument.program for part in song.parts])
    of_note = programs[song.notes.part]
    kinds, first = np.unique(of_note, return_index=True)
    return [
        _activity(
            instrument(0, is_drum=True) if program == _DRUMS else instrument(program),
            song.notes.of(of_note == program),
            song.tempo,
        )
        for program in kinds[np.argsort(first, kind="stable")].tolist()
    ]


def _activity(who: Instrument, notes: Notes, tempo: TempoMap) -> InstrumentActivity:
    """When notes are heard, merged over gaps up to GAP_S."""
    starts, ends = heard_s(notes, tempo, who.is_drum)
    breaks = np.flatnonzero(starts[1:] > ends[:-1] + GAP_S)
    firsts, lasts = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [starts.size - 1]])
    return InstrumentActivity(
        instrument=who.name,
        family=who.family,
        program=0 if who.is_drum else who.program,
        is_drum=who.is_drum,
        spans=[Span(start_s=s, end_s=e) for s, e in zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True)],
        notes=len(notes),
    )


def heard_s(notes: Notes, tempo: TempoMap, is_drum: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From when to when notes are heard in seconds: starts [n] ascending, and the latest end until then [n]."""
    starts, ends = tempo.to_seconds(notes.heard_from_tick), tempo.to_seconds(notes.heard_to_tick)
    if is_drum:
        ends = np.maximum(ends, starts + DRUM_STROKE_S)
    order = np.argsort(starts, kind="stable")
    return starts[order], np.maximum.accumulate(ends[order])


def bar_edges(song: Song, bound: int = MidiLimits.bars) -> NDArray[np.int64]:
    """Ticks at which bars start and end, through the last note; a new meter starts a new bar."""
    end, edges, count, last = int(song.notes.end_tick.max()), [], 0, 0
    stops = [min(meter.tick, end) for meter in song.meters[1:]] + [end]
    for meter, stop in zip(song.meters, stops, strict=True):
        length = max(1, song.tempo.ticks_per_beat * 4 * meter.beats // meter.unit)
        bars = max(0, -(-(stop - meter.tick) // length))
        count += bars
        within("MIDI_TOO_MANY_BARS", "bars", count, bound)
        edges.append(np.arange(meter.tick, stop, length, dtype=np.int64))
        last = meter.tick + bars * length if bars else last
    return np.append(np.concatenate(edges), last)


def _bars(song: Song, edges: NDArray[np.int64]) -> list[Bar]:
    """Weights are seconds times velocity / 127, C first, without drums; onsets are counted with drums."""
    notes, seconds = song.notes, song.tempo.to_seconds(edges)
    phase = (notes.start_tick % song.tempo.ticks_per_beat) / song.tempo.ticks_per_beat
    on_grid = np.abs(phase[:, np.newaxis] - _GRID_BEATS).min(axis=1) <= _GRID_TOLERANCE_BEATS  # by chance 25 % are
    onsets, _ = np.histogram(notes.start_tick, edges)
    onsets_on_grid, _ = np.histogram(notes.start_tick[on_grid], edges)
    weights = pitch_class_weights(song, seconds)
    return [
        Bar(span=Span(start_s=start, end_s=end), pitch_class_weights=row, onsets=count, onsets_on_grid=hits)
        for start, end, row, count, hits in zip(
            seconds[:-1].tolist(), seconds[1:].tolist(), weights.tolist(), onsets.tolist(), onsets_on_grid.tolist(),
            strict=True,
        )
    ]  # fmt: skip


def pitch_class_weights(song: Song, edges_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [bars, 12]: the difference of the cumulative weight at the bars' edges, whatever notes overlap."""
    pitched = song.notes.of(~song.is_drum)
    starts, ends = song.tempo.to_seconds(pitched.heard_from_tick), song.tempo.to_seconds(pitched.heard_to_tick)
    columns = []
    for pitch_class in range(12):
        mine = pitched.heard_pitch % 12 == pitch_class
        loud = pitched.velocity[mine] / 127.0
        columns.append(np.diff(_ramp(starts[mine], loud, edges_s) - _ramp(ends[mine], loud, edges_s)))
    weights = np.stack(columns, axis=1)
    return np.where(weights > 1e-9, weights, 0.0)


def _ramp(times: NDArray[np.float64], slopes: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over i of slopes[i] * max(0, at - times[i]), for each `at`."""
    order = np.argsort(times)
    passed = np.searchsorted(times[order], at, side="right")
    slope: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(slopes[order])])[passed]
    offset: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(slopes[order] * times[order])])[passed]
    return slope * at - offset
