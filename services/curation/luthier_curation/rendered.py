"""What rendering recorded of the song that a clip was cut from: its stems, and where beats fall.

A clip's lineage names the record of the rendering (`actions/render/….json`). Clips of recordings, and clips whose
record is gone, have none: beats are then laid out by the clip's own tempo, and there are no stems.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_TEMPO_MAP,
    ClipFacts,
    Lineage,
    MeterChange,
    Span,
    TempoChange,
    Timeline,
)
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.rpc import LuthierError, Unavailable
from luthier_kit.store import MAX_RECORD_BYTES, Store, parse_record
from luthier_music.meter import beat_quarters

T = TypeVar("T", TempoChange, MeterChange)
RENDER_RECORD: Final = re.compile(r"actions/render/[0-9a-f]{64}(\.\d{1,9})?\.json")
MAX_BEATS: Final = 4000
"""Most beats of a clip that are laid out: ten minutes at 400 BPM."""
EDGE_S: Final = 1e-3  # a beat this near before the clip's first sample is its first beat
TEMPO_MAP: Final = "the tempo map"
OWN_TEMPO: Final = "the clip's tempo, from its first sample on"


@dataclass(frozen=True)
class Beat:
    """A beat, in seconds from the clip's first sample, and whether a bar begins with it."""

    time_s: float
    downbeat: bool


@dataclass(frozen=True)
class Beats:
    """Beats in order; `source` says what they follow, empty = the tempo is unknown or changes in ways not known."""

    beats: tuple[Beat, ...] = ()
    source: str = ""


def rendering_of(store: Store, lineage: Lineage) -> RenderSongResponse | None:
    """The rendering of the clip's song; None where the lineage names none, or its record is gone or another's.

    Unavailable when the store does not answer.
    """
    for key in lineage.inputs:
        if not RENDER_RECORD.fullmatch(key):
            continue
        try:
            data = store.objects.get(key, MAX_RECORD_BYTES)
        except Unavailable:
            raise
        except LuthierError:  # it is not ours to read
            continue
        record = parse_record(data, RenderSongResponse) if data else None
        rendered = RenderSongResponse()
        if record and record.result.Unpack(rendered):
            return rendered
    return None


def beats_of(facts: ClipFacts, span: Span, rendered: RenderSongResponse | None) -> Beats:
    """Where the beats of a clip fall; `span` is the clip's in its song.

    By the tempo map where the clip's tempo comes from it, or from a clip whose tempo it gave before a person corrected
    it; else evenly by the clip's tempo, if that is known and does not change.
    """
    if rendered and rendered.timeline.bars and facts.tempo.source == FACT_SOURCE_TEMPO_MAP:
        found = _of_timeline(rendered.timeline, span)
        if found:
            return Beats(found, TEMPO_MAP)
    if facts.tempo.tempo_bpm and not facts.tempo.changes:
        return Beats(_even(facts), OWN_TEMPO)
    return Beats()


def _of_timeline(timeline: Timeline, span: Span) -> tuple[Beat, ...]:
    beats: list[Beat] = []
    for bar in timeline.bars:
        if bar.span.end_s <= span.start_s or bar.span.start_s >= span.end_s - EDGE_S:
            continue
        for number, time_s in enumerate(_beats_in(bar.span, timeline)):
            if span.start_s - EDGE_S <= time_s < span.end_s - EDGE_S and len(beats) < MAX_BEATS:
                beats.append(Beat(round(max(0.0, time_s - span.start_s), 4), number == 0))
    return tuple(beats)


def _beats_in(bar: Span, timeline: Timeline) -> Iterator[float]:
    """Times of the beats of a bar in the song, in seconds."""
    meter = _in_force(timeline.meters, bar.start_s) or MeterChange(numerator=4, denominator=4)
    length = beat_quarters(meter.numerator, meter.denominator) or 4 / meter.denominator
    time_s = bar.start_s
    while time_s < bar.end_s - EDGE_S:
        yield time_s
        time_s = _after(timeline.tempos, time_s, length)


def _after(tempos: Sequence[TempoChange], time_s: float, quarters: float) -> float:
    """The time so many quarter notes later."""
    while True:
        tempo = _in_force(tempos, time_s)
        quarters_per_s = (tempo.tempo_bpm if tempo else 120.0) / 60
        until_s = min((change.start_s for change in tempos if change.start_s > time_s + 1e-9), default=float("inf"))
        if (until_s - time_s) * quarters_per_s >= quarters:
            return time_s + quarters / quarters_per_s
        quarters -= (until_s - time_s) * quarters_per_s
        time_s = until_s


def _in_force(changes: Sequence[T], time_s: float) -> T | None:
    """The last of the changes that are in force by then."""
    return next((change for change in reversed(changes) if change.start_s <= time_s + EDGE_S), None)


def _even(facts: ClipFacts) -> tuple[Beat, ...]:
    step_s = 60 / facts.tempo.tempo_bpm
    count = min(MAX_BEATS, int((facts.duration_s - EDGE_S) / step_s) + 1)
    bar = 0.0
    if facts.HasField("meter") and not facts.meter_changes:
        quarters = 4 * facts.meter.numerator / facts.meter.denominator
        bar = quarters / (1.0 if facts.tempo.notated else facts.tempo.beat_quarters or 1.0)
    beats_a_bar = int(bar) if bar == int(bar) else 0
    downbeat = [bool(beats_a_bar) and number % beats_a_bar == 0 for number in range(count)]
    return tuple(Beat(round(number * step_s, 4), first) for number, first in enumerate(downbeat))
