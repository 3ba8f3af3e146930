"""What the MIDI file proves about a rendered song, asked for one span at a time.

Instruments and note times are truth. The tempo map is only as good as its grid: where note onsets fall on it, it is
trusted, else the audio is asked. The key is found from the notes, never from a key signature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier_analysis.facts import InstrumentShare, Source, Tempo
from luthier_music.keys import KeyFit, fit_key

MIN_ONSETS = 8  # fewer prove nothing about a grid
MIN_ON_GRID = 0.6  # share of the onsets on the grid from which on the map is trusted; by chance 0.25 are
STEADY_WITHIN = 0.02  # of the span's median tempo, the tolerance of Accuracy 1
STEADY_SHARE = 0.98  # of the span's time within that
MIN_INSTRUMENT_SHARE = 0.1  # of the span, and at least ...
MIN_INSTRUMENT_S = 1.0  # ... this long: one note is not an instrument of the clip

Span = tuple[float, float]


@dataclass(frozen=True)
class Bar:
    """One bar: its span in seconds, 12 pitch-class weights (C first), note onsets and those on the grid."""

    start_s: float
    end_s: float
    pitch_class_weights: tuple[float, ...]
    onsets: int
    onsets_on_grid: int


@dataclass(frozen=True)
class Activity:
    """When an instrument sounds: ordered, disjoint spans in seconds."""

    instrument: str
    family: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Timeline:
    """Tempo changes (start_s, bpm), meters (start_s, numerator, denominator), bars and activity, ordered by time."""

    duration_s: float
    tempos: tuple[tuple[float, float], ...]
    meters: tuple[tuple[float, int, int], ...]
    bars: tuple[Bar, ...]
    activities: tuple[Activity, ...]

    def trusted(self, span: Span | None = None) -> bool:
        """Whether the tempo map holds in the span (whole song: None), or in the song where the span has few onsets."""
        onsets, on_grid = _grid(self.bars if span is None else self._bars_in(span))
        if onsets < MIN_ONSETS and span is not None:
            return self.trusted()
        return onsets >= MIN_ONSETS and on_grid / onsets >= MIN_ON_GRID

    def bar_lines(self) -> list[float]:
        """Where bars start, and where the last one ends, in seconds."""
        return [bar.start_s for bar in self.bars] + [bar.end_s for bar in self.bars[-1:]]

    def on_bar_lines(self, span: Span) -> bool:
        """Whether both edges lie on bar lines, to the millisecond."""
        lines = np.array(self.bar_lines())
        return bool(len(lines)) and all(np.abs(lines - edge).min() < 1e-3 for edge in span)

    def tempo_in(self, span: Span) -> Tempo | None:
        """Tempo of the map inside the span, steady or changing; None where the map is not trusted."""
        if not self.tempos or not self.trusted(span):
            return None
        starts = [start for start, _ in self.tempos]
        seconds = np.array([_overlap(span, stretch) for stretch in zip(starts, [*starts[1:], np.inf], strict=True)])
        bpm = np.array([tempo for _, tempo in self.tempos])
        if seconds.sum() <= 0:
            return None
        median = _weighted_median(bpm, seconds)
        steady = seconds[np.abs(bpm / median - 1) <= STEADY_WITHIN].sum() / seconds.sum()
        mean = float((bpm * seconds).sum() / seconds.sum())
        changes = bool(steady < STEADY_SHARE)
        return Tempo(mean if changes else median, Source.TEMPO_MAP, changes=changes)

    def key_fit(self, span: Span) -> KeyFit | None:
        """The key that fits the span's notes best, sure or not; None where no notes tell."""
        weights = np.zeros(12)
        for bar in self._bars_in(span):
            share = _overlap(span, (bar.start_s, bar.end_s)) / (bar.end_s - bar.start_s)
            weights += share * np.asarray(bar.pitch_class_weights)
        return fit_key(weights.tolist())

    def instruments_in(self, span: Span) -> tuple[InstrumentShare, ...]:
        """Instruments that sound long enough in the span, by share, highest first; same names are joined."""
        length_s = span[1] - span[0]
        least_s = min(max(MIN_INSTRUMENT_S, MIN_INSTRUMENT_SHARE * length_s), length_s / 2)
        named: dict[tuple[str, str], list[Span]] = {}
        for activity in self.activities:
            named.setdefault((activity.instrument, activity.family), []).extend(activity.spans)
        sounding = ((name, family, _union_s(spans, span)) for (name, family), spans in named.items())
        kept = [InstrumentShare(name, family, min(1.0, s / length_s)) for name, family, s in sounding if s >= least_s]
        return tuple(sorted(kept, key=lambda one: (-one.share, one.instrument)))

    def meter_in(self, span: Span) -> tuple[int, int] | None:
        """Meter in force at the start of the span; None where the map is not trusted."""
        if not self.trusted(span):
            return None
        in_force = [(top, bottom) for start_s, top, bottom in self.meters if start_s <= span[0] + 1e-6]
        return in_force[-1] if in_force else None

    def _bars_in(self, span: Span) -> list[Bar]:
        return [bar for bar in self.bars if _overlap(span, (bar.start_s, bar.end_s)) > 0]


def _grid(bars: Sequence[Bar]) -> tuple[int, int]:
    return sum(bar.onsets for bar in bars), sum(bar.onsets_on_grid for bar in bars)


def _overlap(one: Span, other: Span) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def _union_s(spans: list[Span], within: Span) -> float:
    """Seconds inside `within` that at least one of the spans covers."""
    total, reached = 0.0, within[0]
    for start, end in sorted(spans):
        total += max(0.0, min(end, within[1]) - max(start, reached))
        reached = max(reached, end)
    return total


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
