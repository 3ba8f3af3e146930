"""What the MIDI file proves about a rendered song, asked for one span at a time.

Instruments and note times are truth. The tempo map is only as good as its grid: where note onsets fall on it, it is
trusted, else the audio is asked. The key is found from the notes, never from a key signature.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from luthier.common.v1 import common_pb2 as common
from luthier_analysis.facts import Descriptor, InstrumentShare, MeterFound, Tempo
from luthier_kit.rpc import Checks
from luthier_music.grid import MIN_ONSETS, grid_holds
from luthier_music.instruments import is_acoustic
from luthier_music.keys import KeyFit, fit_key
from luthier_music.meter import beat_quarters

STEADY_WITHIN: Final = 0.02  # of the span's median tempo, the tolerance of Accuracy 1
STEADY_SHARE: Final = 0.98  # of the span's time within that
MIN_INSTRUMENT_SHARE: Final = 0.1  # of the span, and at least ...
MIN_INSTRUMENT_S: Final = 1.0  # ... this long: one note is not an instrument of the clip
METER_SHARE: Final = 0.9  # of the span, from which on a meter is the span's: a bar of another one does not count
MIN_SOUNDING_S: Final = 1.0  # of instruments that are acoustic or not; less is one note
MIN_TEMPO_BPM, MAX_TEMPO_BPM = 20.0, 400.0  # of a fact: slower and faster pulses are not heard as a tempo
_MAX_BARS, _MAX_TEMPOS, _MAX_METERS, _MAX_SPANS = 20_000, 100_000, 20_000, 200_000
_MAX_INSTRUMENTS, _MAX_NAME_CHARS = 160, 40  # General MIDI has 128 and drums; each clip's facts repeat the names

Span = tuple[float, float]  # start and end in seconds


def check_timeline(message: common.Timeline, checks: Checks, max_duration_s: float) -> None:
    """Adds what is wrong with a timeline in a request: counts first, then order and values."""
    own = Checks("timeline.")
    own.above("duration_s", message.duration_s, 0, max_duration_s)
    own.count("tempos", message.tempos, 1, _MAX_TEMPOS)
    own.count("meters", message.meters, 0, _MAX_METERS)
    own.count("bars", message.bars, 0, _MAX_BARS)
    if own.count("instruments", message.instruments, 0, _MAX_INSTRUMENTS):
        own.that(sum(len(one.spans) for one in message.instruments) <= _MAX_SPANS, "instruments", "have too many spans")
        for index, one in enumerate(message.instruments):
            own.text(f"instruments[{index}].instrument", one.instrument, max_chars=_MAX_NAME_CHARS, blank=False)
            own.text(f"instruments[{index}].family", one.family, max_chars=_MAX_NAME_CHARS)
    if not own.violations:
        own.that(_ascending(t.start_s for t in message.tempos), "tempos", "must be ordered by time from 0 s on")
        own.that(all(1 <= t.tempo_bpm <= 1000 for t in message.tempos), "tempos", "must be 1 to 1000 BPM")
        own.that(_ascending(m.start_s for m in message.meters), "meters", "must be ordered by time from 0 s on")
        own.that(
            all(map(_is_bar, message.bars)), "bars", "need a span, 12 finite weights >= 0, onsets_on_grid <= onsets"
        )
        own.that(_ascending(b.span.start_s for b in message.bars), "bars", "must be ordered by time from 0 s on")
        spans = (span for one in message.instruments for span in one.spans)
        own.that(all(map(_is_span, spans)), "instruments", "need spans that end after they start")
    checks.violations += own.violations


def _is_span(span: common.Span) -> bool:
    return 0 <= span.start_s < span.end_s < math.inf


def _is_bar(bar: common.Bar) -> bool:
    weights = bar.pitch_class_weights
    sane = len(weights) == 12 and min(weights) >= 0 and math.isfinite(sum(weights))
    return _is_span(bar.span) and sane and 0 <= bar.onsets_on_grid <= bar.onsets


def _ascending(times: Iterable[float]) -> bool:
    before = 0.0
    for time in times:
        if not before <= time < math.inf:
            return False
        before = time
    return True


@dataclass(frozen=True)
class Timeline:
    """A timeline that was checked, and what it proves."""

    message: common.Timeline

    @property
    def duration_s(self) -> float:
        return self.message.duration_s

    def trusted(self, span: Span | None = None) -> bool:
        """Whether the tempo map holds in the span (whole song: None), or in the song where the span has few onsets."""
        bars = self.message.bars if span is None else self._bars_in(span)
        onsets, on_grid = sum(bar.onsets for bar in bars), sum(bar.onsets_on_grid for bar in bars)
        if onsets < MIN_ONSETS and span is not None:
            return self.trusted()
        return grid_holds(onsets, on_grid)

    def bar_lines(self) -> list[float]:
        """Where bars start, and where the last one ends, in seconds."""
        bars = self.message.bars
        return [bar.span.start_s for bar in bars] + [bar.span.end_s for bar in bars[-1:]]

    def on_bar_lines(self, span: Span) -> bool:
        """Whether both edges lie on bar lines, to the millisecond."""
        lines = np.array(self.bar_lines())
        return bool(len(lines)) and all(np.abs(lines - edge).min() < 1e-3 for edge in span)

    def tempo_in(self, span: Span) -> Tempo | None:
        """Tempo of the map inside the span by the meter's beat, steady or changing, 20 to 400 per minute.

        Notated quarter notes are counted where the meter does not tell its beat, or the beat lies outside of that; None
        where they do, too, or the map is not trusted.
        """
        tempos = self.message.tempos
        if not tempos or not self.trusted(span):
            return None
        seconds = _seconds_in(span, [tempo.start_s for tempo in tempos])
        bpm = np.array([tempo.tempo_bpm for tempo in tempos])
        if seconds.sum() <= 0:
            return None
        median = _weighted_median(bpm, seconds)
        steady = seconds[np.abs(bpm / median - 1) <= STEADY_WITHIN].sum() / seconds.sum()
        mean = float((bpm * seconds).sum() / seconds.sum())
        changes = bool(steady < STEADY_SHARE)
        quarters_bpm = mean if changes else median
        beats = {beat_quarters(*meter) for meter, share in self._meters_in(span).items() if share > 1 - STEADY_SHARE}
        beat = (beats or {1.0}).pop() if len(beats) < 2 else None
        for length, notated in ((beat, False), (1.0, True)):
            if length is not None and MIN_TEMPO_BPM <= quarters_bpm / length <= MAX_TEMPO_BPM:
                tempo_bpm = quarters_bpm / length
                return Tempo(
                    tempo_bpm, common.FACT_SOURCE_TEMPO_MAP, changes=changes, beat_quarters=length, notated=notated
                )
        return None

    def key_fit(self, span: Span) -> KeyFit | None:
        """The key that fits the span's notes best, sure or not; None where there are no pitched notes."""
        weights = np.zeros(12)
        for bar in self._bars_in(span):
            share = _overlap(span, (bar.span.start_s, bar.span.end_s)) / (bar.span.end_s - bar.span.start_s)
            weights += share * np.asarray(bar.pitch_class_weights)
        return fit_key(weights.tolist())

    def instruments_in(self, span: Span) -> tuple[InstrumentShare, ...]:
        """Instruments that sound long enough in the span, by share, highest first; same names are joined."""
        length_s = span[1] - span[0]
        least_s = min(max(MIN_INSTRUMENT_S, MIN_INSTRUMENT_SHARE * length_s), length_s / 2)
        spans: dict[tuple[str, str], list[Span]] = {}
        for one in self.message.instruments:
            spans.setdefault((one.instrument, one.family), []).extend((s.start_s, s.end_s) for s in one.spans)
        playing_s = ((name, family, _union_s(own, span)) for (name, family), own in spans.items())
        kept = [InstrumentShare(name, family, min(1.0, s / length_s)) for name, family, s in playing_s if s >= least_s]
        return tuple(sorted(kept, key=lambda one: (-one.share, one.instrument)))

    def descriptors_in(self, span: Span) -> tuple[Descriptor, ...]:
        """What the notes prove of how a span sounds, none where nothing sounds in it.

        `acousticness`: share, 0 to 1, of the time in which pitched instruments sound, each counted by itself, that
        belongs to acoustic ones (`luthier_music.instruments.is_acoustic`). Drums and sound effects do not count.
        `instrumentalness`: 1, since nobody sings; choirs and voices of General MIDI sing no words, which Spotify's
        definition counts as instrumental.
        """
        played_s = {True: 0.0, False: 0.0, None: 0.0}
        for one in self.message.instruments:
            spans = [(s.start_s, s.end_s) for s in one.spans]
            played_s[is_acoustic(one.instrument)] += _union_s(spans, span)
        found = []
        pitched_s = played_s[True] + played_s[False]
        if pitched_s >= MIN_SOUNDING_S:
            found.append(_of_notes("acousticness", played_s[True] / pitched_s))
        if pitched_s + played_s[None] > 0:
            found.append(_of_notes("instrumentalness", 1.0))
        return tuple(found)

    def meter_in(self, span: Span) -> MeterFound | None:
        """Meter of most of the span, and whether it changes; None where the map is not trusted."""
        shares = self._meters_in(span)
        if not shares or not self.trusted(span):
            return None
        meter, share = max(shares.items(), key=lambda item: item[1])
        return MeterFound(*meter, changes=share < METER_SHARE)

    def _meters_in(self, span: Span) -> dict[tuple[int, int], float]:
        """Shares of the span, 0..1, by meter (numerator, denominator)."""
        shares: dict[tuple[int, int], float] = {}
        seconds = _seconds_in(span, [meter.start_s for meter in self.message.meters])
        for meter, length_s in zip(self.message.meters, seconds.tolist(), strict=True):
            if length_s > 0:
                key = meter.numerator, meter.denominator
                shares[key] = shares.get(key, 0.0) + length_s / (span[1] - span[0])
        return shares

    def _bars_in(self, span: Span) -> Sequence[common.Bar]:
        return [bar for bar in self.message.bars if _overlap(span, (bar.span.start_s, bar.span.end_s)) > 0]


def _of_notes(name: str, value: float) -> Descriptor:
    return Descriptor(name, value, f"luthier/{name}-of-notes-1", common.FACT_SOURCE_NOTES)


def _seconds_in(span: Span, starts_s: Sequence[float]) -> np.ndarray:
    """How long each of consecutive pieces, given by their starts, lies in the span: (n,) seconds."""
    return np.array([_overlap(span, piece) for piece in pairwise([*starts_s, math.inf])])


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
