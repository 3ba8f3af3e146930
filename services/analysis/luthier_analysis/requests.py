"""Requests, checked: every field and bound that is wrong is named before anything is fetched or allocated."""

from luthier_kit.rpc import Checks
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.common.v1 import common_pb2 as common
from luthier_analysis.features.options import TEMPO_ESTIMATORS, Options
from luthier_analysis.header import MAX_S, MIN_S
from luthier_analysis.results import Plan
from luthier_analysis.timeline import Activity, Bar, Span, Timeline
from luthier_music.audio import AudioInfo

FEATURE_NAMES = {
    pb.FEATURE_TEMPO: "tempo",
    pb.FEATURE_KEY: "key",
    pb.FEATURE_LOUDNESS: "loudness",
    pb.FEATURE_SECTIONS: "sections",
    pb.FEATURE_DESCRIPTORS: "descriptors",
}
MAX_AUDIO_BYTES = 1 << 30
MAX_BARS, MAX_TEMPOS, MAX_METERS, MAX_INSTRUMENTS, MAX_SPANS = 20_000, 100_000, 20_000, 1_000, 200_000
LENGTH_TOLERANCE_S = 1.0  # between the timeline's length and the mix's


@dataclass(frozen=True)
class AnalyzeCall:
    """What to measure; features in a fixed order, each once."""

    features: tuple[str, ...]
    span: Span | None
    options: Options

    def parameters(self) -> dict[str, Any]:
        """What decides the answer, as JSON."""
        estimator = self.options.tempo_estimator if "tempo" in self.features else ""
        return {"features": list(self.features), "span_s": self.span, "tempo_estimator": estimator}


@dataclass(frozen=True)
class CutCall:
    """How to cut; `inputs` are the digests of mix and timeline."""

    inputs: list[str]
    timeline: Timeline | None
    plan: Plan

    def parameters(self, options: Options) -> dict[str, Any]:
        """What decides the answer, as JSON."""
        return {**self.plan.__dict__, "tempo_estimator": options.tempo_estimator}


def analyze(request: pb.AnalyzeAudioRequest, defaults: Options) -> AnalyzeCall:
    """Raises InvalidRequest."""
    checks = Checks()
    checks.artifact("audio", request.audio, max_bytes=MAX_AUDIO_BYTES)
    checks.count("features", request.features, 1, len(FEATURE_NAMES))
    checks.that(
        all(feature in FEATURE_NAMES for feature in request.features), "features", "must be known and not unspecified"
    )
    if request.tempo_estimator:
        checks.one_of("tempo_estimator", request.tempo_estimator, TEMPO_ESTIMATORS)
    span = (request.span.start_s, request.span.end_s) if request.HasField("span") else None
    if span:
        checks.within("span.start_s", span[0], 0, MAX_S)
        checks.within("span.end_s", span[1], span[0] + MIN_S, MAX_S)
    checks.done()
    names = tuple(name for number, name in FEATURE_NAMES.items() if number in request.features)
    estimator = request.tempo_estimator or defaults.tempo_estimator
    return AnalyzeCall(names, span, replace(defaults, tempo_estimator=estimator))


def span_within(span: Span | None, info: AudioInfo) -> None:
    """Raises InvalidRequest where the span ends after the audio."""
    if span:
        checks = Checks()
        checks.within("span.end_s", span[1], MIN_S, info.duration_s)
        checks.done()


def cut(request: pb.CutClipsRequest) -> CutCall:
    """Raises InvalidRequest."""
    checks = Checks()
    checks.artifact("mix", request.mix, max_bytes=MAX_AUDIO_BYTES)
    plan = _plan(request, checks)
    if request.HasField("timeline"):
        _check_timeline(request.timeline, Checks("timeline."), checks)
    checks.done()
    if not request.HasField("timeline"):
        return CutCall([request.mix.sha256], None, plan)
    digest = hashlib.sha256(request.timeline.SerializeToString(deterministic=True)).hexdigest()
    return CutCall([request.mix.sha256, digest], _timeline(request.timeline), plan)


def same_length(timeline: Timeline | None, info: AudioInfo) -> None:
    """Raises InvalidRequest where timeline and mix cannot belong together."""
    if timeline:
        checks = Checks()
        near = abs(timeline.duration_s - info.duration_s) <= LENGTH_TOLERANCE_S
        bound = f"must be within {LENGTH_TOLERANCE_S:g} s of the mix's {info.duration_s:.3f} s"
        checks.that(near, "timeline.duration_s", f"{bound}, got {timeline.duration_s:g}")
        checks.done()


def _plan(request: pb.CutClipsRequest, checks: Checks) -> Plan:
    default = Plan()
    target_s = request.target_s if request.HasField("target_s") else default.target_s
    min_s = request.min_s if request.HasField("min_s") else min(default.min_s, target_s)
    max_s = request.max_s if request.HasField("max_s") else max(default.max_s, target_s)
    max_clips = request.max_clips if request.HasField("max_clips") else default.max_clips
    if checks.within("target_s", target_s, 2, 600):
        checks.within("min_s", min_s, 1, target_s)
        checks.within("max_s", max_s, target_s, 600)
    checks.within("max_clips", max_clips, 1, 200)
    return Plan(target_s, min_s, max_s, max_clips)


def _check_timeline(message: common.Timeline, checks: Checks, into: Checks) -> None:
    checks.above("duration_s", message.duration_s, 0, MAX_S + LENGTH_TOLERANCE_S)
    checks.count("tempos", message.tempos, 1, MAX_TEMPOS)
    checks.count("meters", message.meters, 0, MAX_METERS)
    checks.count("bars", message.bars, 0, MAX_BARS)
    checks.count("instruments", message.instruments, 0, MAX_INSTRUMENTS)
    checks.that(sum(len(one.spans) for one in message.instruments) <= MAX_SPANS, "instruments", "have too many spans")
    if not checks.violations:
        checks.that(_ascending(t.start_s for t in message.tempos), "tempos", "must be ordered by time from 0 s on")
        checks.that(all(1 <= t.tempo_bpm <= 1000 for t in message.tempos), "tempos", "must be 1 to 1000 BPM")
        checks.that(_ascending(m.start_s for m in message.meters), "meters", "must be ordered by time from 0 s on")
        checks.that(
            all(map(_is_bar, message.bars)), "bars", "need a span, 12 finite weights >= 0, onsets_on_grid <= onsets"
        )
        checks.that(_ascending(b.span.start_s for b in message.bars), "bars", "must be ordered by time from 0 s on")
        spans = (span for one in message.instruments for span in one.spans)
        checks.that(all(map(_is_span, spans)), "instruments", "need spans that end after they start")
    into.violations += checks.violations


def _is_span(span: common.Span) -> bool:
    return 0 <= span.start_s < span.end_s < math.inf


def _is_bar(bar: common.Bar) -> bool:
    weights = bar.pitch_class_weights
    sound = len(weights) == 12 and all(0 <= weight < math.inf for weight in weights)
    return _is_span(bar.span) and sound and 0 <= bar.onsets_on_grid <= bar.onsets


def _ascending(times: Iterable[float]) -> bool:
    before = 0.0
    for time in times:
        if not before <= time < math.inf:
            return False
        before = time
    return True


def _timeline(message: common.Timeline) -> Timeline:
    return Timeline(
        duration_s=message.duration_s,
        tempos=tuple((tempo.start_s, tempo.tempo_bpm) for tempo in message.tempos),
        meters=tuple((meter.start_s, meter.numerator, meter.denominator) for meter in message.meters),
        bars=tuple(
            Bar(b.span.start_s, b.span.end_s, tuple(b.pitch_class_weights), b.onsets, b.onsets_on_grid)
            for b in message.bars
        ),
        activities=tuple(
            Activity(one.instrument, one.family, tuple((span.start_s, span.end_s) for span in one.spans))
            for one in message.instruments
        ),
    )
