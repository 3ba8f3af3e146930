"""Small inference and analysis services that keep the contracts, with known truth: clicks on the left, a triad's root
and third on the right. What inference makes of a prompt is a table; analysis measures the file itself.
"""

import io
import re
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import soundfile

from luthier.analysis.v1 import analysis_pb2, analysis_pb2_grpc
from luthier.common.v1.common_pb2 import FACT_SOURCE_AUDIO, Span, TempoFact
from luthier.inference.v1 import inference_pb2, inference_pb2_grpc
from luthier_kit.registry import resolve
from luthier_kit.rpc import Checks, InvalidRequest, Service
from luthier_kit.store import Store
from luthier_music.key_facts import key_fact
from luthier_music.keys import Key, parse_key

RATE = 8000
C4_HZ = 261.6256


@dataclass(frozen=True)
class Music:
    """What to make: None = nothing of the kind. `extra_s` is added to the length asked for."""

    tempo_bpm: float | None = 120.0
    key: Key | None = Key(0, "major")
    gain: float = 0.5
    extra_s: float = 0.0


Make = Callable[[inference_pb2.GenerateRequest, int], Music | np.ndarray]
"""From a request and the number of its row in the quick suite (its seed less 9000) to music, or to samples at RATE."""


def follows_prompt(request: inference_pb2.GenerateRequest, row: int) -> Music:
    """Exactly what the prompt states."""
    key, tempo = re.search(r"in ([A-G][#b]? \w+)", request.prompt), re.search(r"at (\d+) BPM", request.prompt)
    return Music(float(tempo[1]) if tempo else None, parse_key(key[1]) if key else None)


def ignores_prompt(request: inference_pb2.GenerateRequest, row: int) -> Music:
    """The same for every prompt: 120 BPM, C major."""
    return Music()


def samples(music: Music, seconds: float) -> np.ndarray:
    """[frames, 2] at RATE: clicks at the beats, sines of root and third."""
    frames = round((seconds + music.extra_s) * RATE)
    out = np.zeros((frames, 2), dtype=np.float32)
    if music.tempo_bpm:
        beats = np.rint(np.arange(0, frames, 60 / music.tempo_bpm * RATE)).astype(int)
        out[beats[beats < frames], 0] = music.gain
    if music.key:
        time_s = np.arange(frames) / RATE
        third = 4 if music.key.mode == "major" else 3
        for semitones in (music.key.tonic, music.key.tonic + third):
            out[:, 1] += music.gain / 2.5 * np.sin(2 * np.pi * C4_HZ * 2 ** (semitones / 12) * time_s)
    return out


@dataclass
class Inference(inference_pb2_grpc.InferenceServiceServicer):
    """Answers with what `makes` says for the model's name. `calls` counts; `hold` makes calls wait."""

    store: Store
    makes: dict[str, Make]
    calls: list[tuple[str, int]] = field(default_factory=list)
    hold: threading.Event | None = None
    refuse: Callable[[str, int], bool] = lambda model, row: False
    own_guidance: float = 1.0
    own_steps: int = 8
    window_s: float = 12.0
    requests: list[inference_pb2.GenerateRequest] = field(default_factory=list)

    def Generate(
        self, request: inference_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> inference_pb2.GenerateResponse:
        row = request.seed - 9000
        while self.hold and not self.hold.is_set() and context.is_active():
            time.sleep(0.02)
        self.calls.append((request.model, row))
        self.requests.append(request)
        if self.refuse(request.model, row):
            raise InvalidRequest(violations=[("seconds_total", "must be between 0.1 and 5.9, got 10")])
        version = resolve(self.store, request.model)
        out = io.BytesIO()
        wanted = self.makes[version.name](request, row)
        made = wanted if isinstance(wanted, np.ndarray) else samples(wanted, request.seconds_total)
        if request.untrimmed:
            window = np.zeros((round(self.window_s * RATE), 2), dtype=np.float32)
            window[: len(made)] = made[: len(window)]
            made = window
        soundfile.write(out, made, RATE, format="FLAC")
        return inference_pb2.GenerateResponse(
            audio=self.store.blobs.put_bytes("generated", out.getvalue(), "flac", "audio/flac"),
            model=version.label,
            model_digest=f"sha256:{version.digest}",
            guidance_scale=request.guidance_scale if request.HasField("guidance_scale") else self.own_guidance,
            steps=request.steps if request.HasField("steps") else self.own_steps,
            sampler=request.sampler or "own",
            compute_s=0.25,
        )


@dataclass
class Analysis(analysis_pb2_grpc.AnalysisServiceServicer):
    """Measures what Inference makes, exactly."""

    store: Store
    folder: Path

    def AnalyzeAudio(
        self, request: analysis_pb2.AnalyzeAudioRequest, context: grpc.ServicerContext
    ) -> analysis_pb2.AnalyzeAudioResponse:
        if request.tempo_estimator:
            checks = Checks()
            checks.one_of("tempo_estimator", request.tempo_estimator, ("clicks", "deeprhythm"))
            checks.done()
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            try:
                data, rate = soundfile.read(self.store.blobs.fetch(request.audio, Path(folder)))
            except soundfile.LibsndfileError as error:
                raise InvalidRequest(str(error), reason="INVALID_AUDIO") from None
        if request.HasField("span"):
            data = data[round(request.span.start_s * rate) : round(request.span.end_s * rate)]
        response = analysis_pb2.AnalyzeAudioResponse(duration_s=len(data) / rate)
        clicks = np.flatnonzero(data[:, 0] > 0.01)
        if len(clicks) > 1:
            tempo = 60 * rate * (len(clicks) - 1) / (clicks[-1] - clicks[0])
            estimator = f"{request.tempo_estimator}/test" if request.tempo_estimator else "clicks/1"
            response.tempo.CopyFrom(TempoFact(tempo_bpm=tempo, source=FACT_SOURCE_AUDIO, estimator=estimator))
        if analysis_pb2.FEATURE_BEATS in request.features:
            response.beats.estimator = f"{request.beat_estimator}/1"
            response.beats.beats.extend(analysis_pb2.Beat(time_s=click / rate) for click in clicks)
        if analysis_pb2.FEATURE_SECTIONS in request.features:
            middle_s = len(data) / rate / 2
            response.sections.add(span=Span(end_s=middle_s), label="A")
            response.sections.add(span=Span(start_s=middle_s, end_s=2 * middle_s), label="B")
        if data[:, 1].any():
            response.key.CopyFrom(key_fact(_key(data[:, 1], rate)))
            response.key.estimator = "peaks/1"
        if data.any():
            response.loudness_lufs = -20.0
        return response


def _key(samples: np.ndarray, rate: int) -> Key:
    """Root and third are the two strongest peaks."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    pitch = np.rint(12 * np.log2(np.fft.rfftfreq(len(samples), 1 / rate)[1:] / C4_HZ)).astype(int)
    strength = {int(p): float(spectrum[1:][pitch == p].max()) for p in range(0, 24)}
    root, third = sorted(sorted(strength, key=lambda p: strength[p])[-2:])
    return Key(root % 12, "major" if third - root == 4 else "minor")


def loopback_inference(store: Store, **makes: Make) -> Inference:
    """An Inference without the RPCs that an evaluation does not call."""
    return Inference(store, makes)  # type: ignore[abstract]


def inference_service(servicer: Inference) -> Service:
    return Service(
        contract=inference_pb2.DESCRIPTOR.services_by_name["InferenceService"],
        servicer=servicer,
    )


def analysis_service(store: Store, folder: Path) -> Service:
    return Service(
        contract=analysis_pb2.DESCRIPTOR.services_by_name["AnalysisService"],
        servicer=Analysis(store, folder),  # type: ignore[abstract]
    )
