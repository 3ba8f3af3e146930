"""One generation from beginning to end: model, denoising, decoding, storing; stopped within a step of being told."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_inference import metrics, sound
from luthier_inference.catalogue import Profile
from luthier_inference.devices import memory_bounded
from luthier_inference.generation import Model, Step, decode, denoise, prompt_tokens
from luthier_inference.order import Order
from luthier_inference.shelf import Shelf
from luthier_kit.artifacts import Action, Artifacts
from luthier_kit.errors import Cancelled

log = logging.getLogger(__name__)
STAGE, STAGE_VERSION = "generate", "1"
KIND = "generated"  # prefix of its own, so that a bucket rule can let generated audio expire

OnStep = Callable[[int, int, float, float], None]  # step, total, sigma reached, seconds to go


@dataclass(frozen=True)
class Job:
    """An order for a model; `init_audio` is where it starts from, None for noise alone."""

    profile: Profile
    order: Order
    init_audio: ArtifactRef | None = None


@dataclass(frozen=True)
class Take:
    """What a job made. `peak_dbfs` is before clipping, `compute_s` without loading the model."""

    audio: ArtifactRef
    samples: int
    peak_dbfs: float
    compute_s: float
    notes: tuple[str, ...]


class Studio:
    """Makes takes. `precision` changes the audio a little, so it is part of an action's name."""

    def __init__(self, store: Artifacts, shelf: Shelf, precision: str, scratch: Path) -> None:
        self.store, self.shelf, self.precision, self.scratch = store, shelf, precision, scratch

    def action(self, job: Job) -> Action:
        """The name of a job: equal jobs give the same audio."""
        digest = job.profile.version.digest
        values = dict(job.order.__dict__)
        seed = values.pop("seed")
        inputs = [digest, job.init_audio.sha256] if job.init_audio else [digest]
        tools = {"stable-audio-tools": installed("stable-audio-tools")}
        parameters = values | {"precision": self.precision}
        licences = job.profile.version.notes.get("licences", ())
        return Action(STAGE, inputs, parameters, seed, STAGE_VERSION, tools, licences)

    def make(self, job: Job, on_step: OnStep, stop: threading.Event) -> Take:
        """Denoises, decodes and stores. Raises Cancelled within one step of `stop`."""
        order, label = job.order, job.profile.version.name
        with memory_bounded(), self.shelf.lent(job.profile) as model, self._folder() as folder:
            started = time.perf_counter()
            latents = self._denoised(job, model, folder, on_step, stop).latents
            samples = decode(model, order, latents)
            compute_s = time.perf_counter() - started
            rate_hz = model.configuration.sample_rate_hz
            path = sound.write(folder, samples, rate_hz, order.output_format)
            audio = self.store.put_file(KIND, path, media_type=sound.FORMATS[order.output_format].media_type)
            metrics.AUDIO_SECONDS.labels(label).inc(len(samples) / rate_hz)
            notes = (*_truncated(model, order), *_clipped(samples, order))
            return Take(audio, len(samples), sound.peak_dbfs(samples), compute_s, notes)

    def _denoised(self, job: Job, model: Model, folder: Path, on_step: OnStep, stop: threading.Event) -> Step:
        """The last step."""
        init = None
        if job.init_audio:
            c = model.configuration
            path = self.store.fetch(job.init_audio, folder)
            init = sound.read(path, c.sample_rate_hz, c.channels, c.window_samples)
        step, label, begun = None, job.profile.version.name, time.perf_counter()
        _go_on(stop)
        before = begun
        for step in denoise(model, job.order, init):
            now = time.perf_counter()
            metrics.STEPS.labels(label).inc()
            metrics.STEP_SECONDS.labels(label).observe(now - before)
            before = now
            to_go_s = (now - begun) / step.number * (step.total - step.number)
            on_step(step.number, step.total, step.sigma, to_go_s)
            _go_on(stop)
        assert step is not None  # an order has at least one step
        return step

    def _folder(self) -> "_Folder":
        return _Folder(self.scratch)


class _Folder(tempfile.TemporaryDirectory[str]):
    """A temporary folder as a Path."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(dir=scratch, prefix="take-")

    def __enter__(self) -> Path:  # type: ignore[override]
        return Path(super().__enter__())


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        metrics.CANCELLED.inc()
        raise Cancelled("the caller went away; the denoising was stopped")


def _truncated(model: Model, order: Order) -> list[str]:
    notes = []
    for name, text in (("prompt", order.prompt), ("negative_prompt", order.negative_prompt)):
        tokens, read = prompt_tokens(model, text)
        if tokens > read:
            notes.append(f"{name}: the model reads the first {read} of its {tokens} tokens")
    return notes


def _clipped(samples: sound.Samples, order: Order) -> list[str]:
    peak = sound.peak_dbfs(samples)
    if peak <= 0 or not sound.FORMATS[order.output_format].integer:
        return []
    return [f"audio: the peak is {peak:.2f} dBFS; what is above full scale was clipped (wav-float is not clipped)"]
