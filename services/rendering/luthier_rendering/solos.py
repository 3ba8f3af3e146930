"""Passages in which one part of a song really plays: what may become a clip of that part alone.

From the notes, without a sound. A passage goes from bar line to bar line where the tempo map is trusted; elsewhere bar
lines mean nothing, and it goes from one moment to another at which the part begins a note and holds no other, so that
no note is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier.common.v1.common_pb2 import Bar, InstrumentActivity, Timeline
from luthier_music.grid import grid_holds
from luthier_music.keys import KeyFit, fit_key
from luthier_rendering.midi import Song, load_song
from luthier_rendering.smf import MidiLimits
from luthier_rendering.timeline import heard_s, part_activity, pitch_class_weights, timeline

MIN_SHARE: Final = 0.7  # of the time in which the part plays
ARTICULATION_S: Final = 0.5  # shorter rests belong to how notes are played: staccato, the next stroke of a drum
MAX_REST_S: Final = 2.0  # a bar of four beats at 120 BPM
ONSET_EVERY_S: Final = 4.0  # on average at least: a chord that is held for half a minute is no solo
_TOGETHER_S: Final = 0.02  # notes that end and begin within this follow each other
_EDGES_APART_S: Final = 0.25  # between moments at which to cut where no bar lines are trusted
_LENGTHS_TRIED: Final = 8  # ends of a passage per beginning, the nearest to the wanted length first


@dataclass(frozen=True)
class PassageLengths:
    """Lengths of passages in seconds, min_s <= target_s <= max_s."""

    target_s: float = 30.0
    min_s: float = 20.0
    max_s: float = 32.0


@dataclass(frozen=True)
class Passage:
    """A passage; `tempo_bpm` in quarter notes per minute, 0 where the map is not trusted; `weights` [bars, 12] are the
    part's in the bars that it touches, from `first_bar` on."""

    start_s: float
    end_s: float
    sounding_share: float
    longest_rest_s: float
    onsets: int
    key: KeyFit | None
    tempo_bpm: float
    first_bar: int
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class PartPassages:
    """A part that has passages."""

    part: int
    activity: InstrumentActivity
    passages: list[Passage]


def find_solos_file(midi: Path, limits: MidiLimits, lengths: PassageLengths) -> list[PartPassages]:
    """The passages of a MIDI file: the job of a worker process. InvalidRequest MIDI_* for what cannot be rendered."""
    return find_solos(load_song(midi.read_bytes(), limits), lengths)


def find_solos(song: Song, lengths: PassageLengths) -> list[PartPassages]:
    """Of each part that has any, its passages in order of time, disjoint."""
    of_song = timeline(song)
    trusted = grid_holds(*_onsets(of_song.bars))
    found = []
    for index in range(len(song.parts)):
        played = _Played.of(song, index)
        if not len(played.starts):
            continue
        edges = np.minimum(_bar_lines(of_song) if trusted else played.free_moments(), of_song.duration_s)
        spans = _spans(edges, played, lengths)
        if spans:
            weights = _weights(song, index, of_song)
            passages = [_passage(span, played, of_song, weights, trusted) for span in spans]
            found.append(PartPassages(index, part_activity(song, index), passages))
    return found


@dataclass(frozen=True)
class _Played:
    """When a part's notes are heard in seconds: `starts` [notes] ascending, `ends` the latest end so far; and what they
    cover together, from `sounds_from` to `sounds_to` [stretches]."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    sounds_from: NDArray[np.float64]
    sounds_to: NDArray[np.float64]

    @classmethod
    def of(cls, song: Song, part: int) -> "_Played":
        starts, ends = heard_s(song.notes.of(song.notes.part == part), song.tempo, song.parts[part].instrument.is_drum)
        breaks = np.flatnonzero(starts[1:] > ends[:-1])
        firsts, lasts = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [starts.size - 1]])
        if not starts.size:
            return cls(starts, ends, starts, ends)
        return cls(starts, ends, starts[firsts], ends[lasts])

    def free_moments(self) -> NDArray[np.float64]:
        """Beginnings of notes while no other is held, and where the last one ends, not too close to each other."""
        held_to = np.concatenate([[-np.inf], self.ends[:-1]])
        free = self.starts[self.starts >= held_to - _TOGETHER_S]
        kept = [float(free[0])]
        for moment in free[1:].tolist():
            if moment >= kept[-1] + _EDGES_APART_S:
                kept.append(moment)
        return np.array([*kept, float(self.ends[-1])])

    def playing_s(self, start_s: float, end_s: float) -> float:
        """Seconds in which it plays: notes and the rests between them that are articulation."""
        rests = self._rests(start_s, end_s)
        return end_s - start_s - float(rests[rests > ARTICULATION_S].sum())

    def longest_rest_s(self, start_s: float, end_s: float) -> float:
        return float(self._rests(start_s, end_s).max(initial=0.0))

    def onsets(self, start_s: float, end_s: float) -> int:
        first, last = np.searchsorted(self.starts, [start_s - 1e-6, end_s - 1e-6])
        return int(last - first)

    def _rests(self, start_s: float, end_s: float) -> NDArray[np.float64]:
        """Lengths of the rests inside a span, cut at its edges: (n,) seconds."""
        first = int(np.searchsorted(self.sounds_to, start_s, side="right"))
        last = int(np.searchsorted(self.sounds_from, end_s, side="left"))
        begins = np.concatenate([[start_s], self.sounds_to[first:last]])
        ends = np.concatenate([self.sounds_from[first:last], [end_s]])
        rests: NDArray[np.float64] = np.maximum(0.0, np.minimum(ends, end_s) - np.maximum(begins, start_s))
        return rests


def _bar_lines(of_song: Timeline) -> NDArray[np.float64]:
    bars = of_song.bars
    return np.array([bar.span.start_s for bar in bars] + [bar.span.end_s for bar in bars[-1:]])


def _spans(edges: NDArray[np.float64], played: _Played, lengths: PassageLengths) -> list[tuple[float, float]]:
    """From each edge the span of the most fitting length in which the part plays; the next begins where one ends."""
    spans, at = [], 0
    while at < len(edges) - 1:
        start_s = float(edges[at])
        if played.longest_rest_s(start_s, start_s + ARTICULATION_S) > ARTICULATION_S - 1e-6:
            at += 1  # a passage begins with the music
            continue
        first = int(np.searchsorted(edges, start_s + lengths.min_s - 1e-6))
        last = int(np.searchsorted(edges, start_s + lengths.max_s + 1e-6))
        nearest = np.argsort(np.abs(edges[first:last] - start_s - lengths.target_s), kind="stable")
        for end in (first + nearest[:_LENGTHS_TRIED]).tolist():
            if _plays(played, start_s, float(edges[end])):
                spans.append((start_s, float(edges[end])))
                at = end
                break
        else:
            at += 1
    return spans


def _plays(played: _Played, start_s: float, end_s: float) -> bool:
    length_s = end_s - start_s
    return (
        played.onsets(start_s, end_s) >= length_s / ONSET_EVERY_S
        and played.longest_rest_s(start_s, end_s) <= MAX_REST_S
        and played.playing_s(start_s, end_s) >= MIN_SHARE * length_s
    )


def _passage(
    span: tuple[float, float], played: _Played, of_song: Timeline, weights: NDArray[np.float64], trusted: bool
) -> Passage:
    start_s, end_s = span
    bars = [index for index, bar in enumerate(of_song.bars) if bar.span.start_s < end_s and bar.span.end_s > start_s]
    own = weights[bars[0] : bars[-1] + 1]
    inside = [
        (min(bar.span.end_s, end_s) - max(bar.span.start_s, start_s)) / (bar.span.end_s - bar.span.start_s)
        for bar in of_song.bars[bars[0] : bars[-1] + 1]
    ]
    fit = fit_key((np.array(inside) @ own).tolist())
    return Passage(
        start_s,
        end_s,
        sounding_share=played.playing_s(start_s, end_s) / (end_s - start_s),
        longest_rest_s=played.longest_rest_s(start_s, end_s),
        onsets=played.onsets(start_s, end_s),
        key=fit if fit and fit.sure() else None,
        tempo_bpm=_mean_tempo(of_song, span) if trusted else 0.0,
        first_bar=bars[0],
        weights=own,
    )


def _weights(song: Song, part: int, of_song: Timeline) -> NDArray[np.float64]:
    """The part's pitch-class weights in each bar [bars, 12]; zeros for drums."""
    alone = replace(song, notes=song.notes.of(song.notes.part == part))
    return pitch_class_weights(alone, _bar_lines(of_song))


def _mean_tempo(of_song: Timeline, span: tuple[float, float]) -> float:
    """Quarter notes per minute, weighted by time."""
    starts = np.array([tempo.start_s for tempo in of_song.tempos])
    ends = np.append(starts[1:], np.inf)
    seconds = np.maximum(0.0, np.minimum(ends, span[1]) - np.maximum(starts, span[0]))
    return float(np.average([tempo.tempo_bpm for tempo in of_song.tempos], weights=seconds))


def _onsets(bars: Sequence[Bar]) -> tuple[int, int]:
    return sum(bar.onsets for bar in bars), sum(bar.onsets_on_grid for bar in bars)
