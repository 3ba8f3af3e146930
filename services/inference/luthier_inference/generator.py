"""One generation from beginning to end: model, denoising, decoding, storing; stopped within a step of being told."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference import audio, metrics
from luthier_inference.model_cache import ModelCache
from luthier_inference.request import GenerationJob
from luthier_kit.rpc import Cancelled, Unavailable
from luthier_kit.store import Action, Store
from luthier_model.generation import LoadedModel, decode, denoise, prompt_tokens
from luthier_model.registered import statuses

STAGE: Final = "generate"
STAGE_VERSION: Final = "1"
STAGE_VERSION_2: Final = "2"  # where another resampler, or all 64 bits of a seed, give other audio than version 1
KIND: Final = "generated"  # prefix of its own, so that a bucket rule can let generated audio expire

OnStep = Callable[[pb.GenerateProgress], None]


@dataclass(frozen=True)
class GenerationResult:
    """What a job made. `peak_dbfs` is before clipping, `compute_s` without loading the model."""

    audio: ArtifactRef
    samples: int
    peak_dbfs: float
    compute_s: float
    notes: tuple[str, ...]
    finished: audio.Finished


class Generator:
    """Runs jobs. `precision` changes the audio a little, so it is part of an action's name."""

    def __init__(self, store: Store, cache: ModelCache, precision: str, scratch: Path) -> None:
        self.store, self.cache, self.precision, self.scratch = store, cache, precision, scratch

    def action(self, job: GenerationJob) -> Action:
        """The name of a job: equal jobs give the same audio."""
        version = job.served.version
        parameters = job.named() | {"precision": self.precision}
        return Action(
            STAGE,
            inputs=[version.digest, job.init_audio.sha256] if job.init_audio else [version.digest],
            seed=parameters.pop("seed"),
            parameters=parameters,
            version=STAGE_VERSION_2 if job.init_audio or job.parameters.seed >> 32 else STAGE_VERSION,
            tools={"stable-audio-tools": installed_version("stable-audio-tools")},
            licences=version.notes.get("licences", ()),
        )

    def generate(self, job: GenerationJob, on_step: OnStep, stop: threading.Event) -> GenerationResult:
        """Denoises, decodes and stores. Raises Cancelled within one step of `stop`."""
        version, name = job.served.version, job.served.version.name
        with (
            memory_bounded(),
            statuses(version),
            self.cache.acquire(job.served) as model,
            tempfile.TemporaryDirectory(dir=self.scratch, prefix="generation-") as folder,
        ):
            c, started = model.configuration, time.perf_counter()
            init_audio = None
            if job.init_audio:
                path = self.store.blobs.fetch(job.init_audio, Path(folder))
                init_audio = audio.read(path, c.sample_rate_hz, c.channels, c.window_samples)
            _raise_if(stop)
            begun = before = time.perf_counter()
            for step in denoise(model, job.parameters, init_audio):
                now = time.perf_counter()
                metrics.STEPS.labels(name).inc()
                metrics.STEP_SECONDS.labels(name).observe(now - before)
                before = now
                to_go_s = (now - begun) / step.number * (step.total - step.number)
                on_step(pb.GenerateProgress(step=step.number, total=step.total, sigma=step.sigma, eta_s=to_go_s))
                _raise_if(stop)
            samples = decode(model, job.parameters, step.latents)  # (samples, channels)
            compute_s = time.perf_counter() - started
            finished = audio.finished(samples, c.sample_rate_hz, job.output_format, job.level)
            samples = finished.samples
            path = audio.write(Path(folder), samples, finished.rate_hz, job.output_format, job.tags())
            ref = self.store.blobs.move_file(KIND, path, media_type=audio.FORMATS[job.output_format].media_type)
            metrics.AUDIO_SECONDS.labels(name).inc(len(samples) / finished.rate_hz)
            peak_dbfs = audio.peak_dbfs(samples)
            return GenerationResult(ref, len(samples), peak_dbfs, compute_s, _notes(model, job, peak_dbfs), finished)


@contextmanager
def memory_bounded() -> Iterator[None]:
    """A device that has no memory left is busy, not broken: Unavailable, so that another server is tried."""
    try:
        yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        text = "the device has not enough free memory for this now"
        raise Unavailable(text, reason="DEVICE_OUT_OF_MEMORY", retry_after_s=10.0) from None


def _raise_if(stop: threading.Event) -> None:
    if stop.is_set():
        metrics.CANCELLED.inc()
        raise Cancelled("the caller went away; the denoising was stopped")


def _notes(model: LoadedModel, job: GenerationJob, peak_dbfs: float) -> tuple[str, ...]:
    notes = []
    for name, text in (("prompt", job.parameters.prompt), ("negative_prompt", job.parameters.negative_prompt)):
        tokens, read = prompt_tokens(model, text)
        if tokens > read:
            notes.append(f"{name}: the model reads the first {read} of its {tokens} tokens")
    if peak_dbfs > 0 and audio.FORMATS[job.output_format].integer:
        notes.append(
            f"audio: the peak is {peak_dbfs:.2f} dBFS; what is above full scale was clipped (wav-float is not clipped)"
        )
    return tuple(notes)
