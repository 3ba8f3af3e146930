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
from luthier_inference.audio import Finished
from luthier_inference.credentials.signer import Credentials, Signer
from luthier_inference.credentials.statement import DATASET, MODEL, Ingredient, Statement
from luthier_inference.known_outputs.kept import KnownOutputs
from luthier_inference.memory import Estimates, Memory
from luthier_inference.model_cache import ModelCache
from luthier_inference.prompts import KEPT, PromptRecords
from luthier_inference.request import GenerationJob
from luthier_inference.scheduler import AdmittedRequest, Forecast, Scheduler, out_of_memory
from luthier_inference.watermark import ID_CHARS, Watermark, Watermarker
from luthier_inference.work import OnPiece, Work, amount_of
from luthier_kit.store import Action, Store
from luthier_model.generation import LoadedModel, fitted, prompt_tokens
from luthier_model.registered import statuses

STAGE: Final = "generate"
STAGE_VERSION: Final = "1"
STAGE_VERSION_2: Final = "2"  # where another resampler, or all 64 bits of a seed, give other audio than version 1
KIND: Final = "generated"  # prefix of its own, so that a bucket rule can let generated audio expire

OnProgress = Callable[[pb.GenerateProgress], None]
"""Told how far a request is, by the scheduler's thread: it must not wait."""


@dataclass(frozen=True)
class GenerationResult:
    """What a job made. `peak_dbfs` is before clipping; `compute_s` is what the device took, with passes that several
    requests shared counted whole.
    """

    audio: ArtifactRef
    samples: int
    peak_dbfs: float
    compute_s: float
    notes: tuple[str, ...]
    finished: Finished
    credentials: Credentials
    watermark: Watermark
    logged: "pb.OutputLogState"


class Generator:
    """Runs jobs. `precision` changes the audio a little, so it is part of an action's name."""

    def __init__(
        self, store: Store, cache: ModelCache, scheduler: Scheduler, memory: Memory, estimates: Estimates,
        precision: str, scratch: Path, signer: Signer, watermarker: Watermarker, known: KnownOutputs,
        prompts: PromptRecords = KEPT,
    ) -> None:  # fmt: skip
        self.store, self.cache, self.scheduler = store, cache, scheduler
        self.memory, self.estimates = memory, estimates
        self.precision, self.scratch, self.prompts = precision, scratch, prompts
        self.signer, self.watermarker, self.known = signer, watermarker, known

    def action(self, job: GenerationJob) -> Action:
        """The name of a job: equal jobs give the same audio."""
        version = job.served.version
        adapters = sorted(each.artifact.sha256 for each in job.served.adapters)
        parameters = self.prompts.named(job.named()) | {"precision": job.served.precision or self.precision}
        parameters |= self.signer.named(audio.FORMATS[job.output_format].media_type) | self.watermarker.named()
        known = [version, *(each.version for each in job.served.adapters)]
        licences = tuple(dict.fromkeys(licence for each in known for licence in each.notes.get("licences", ())))
        return Action(
            STAGE,
            inputs=[version.digest, *adapters, *([job.init_audio.sha256] if job.init_audio else [])],
            seed=parameters.pop("seed"),
            parameters=parameters,
            version=STAGE_VERSION_2 if job.init_audio or job.parameters.seed >> 32 else STAGE_VERSION,
            tools={"stable-audio-tools": installed_version("stable-audio-tools")},
            licences=licences,
        )

    def generate(
        self,
        job: GenerationJob,
        on_progress: OnProgress,
        stop: threading.Event,
        time_left_s: float | None = None,
        on_piece: OnPiece = lambda _: None,
    ) -> GenerationResult:
        """Denoises and decodes beside other requests, then stores, which holds up nobody.

        Raises Cancelled within one step of `stop`, MemoryTooSmall, what a full scheduler does (`Scheduler.enter`), and
        what `Signer.check` and `Signer.sign` do.
        """
        self.signer.check(audio.FORMATS[job.output_format].media_type)
        version, p = job.served.version, job.parameters
        c = fitted(job.served.configuration, p)

        def forecast(found: Forecast) -> None:
            on_progress(pb.GenerateProgress(total=p.steps, sigma=p.sigma_max, eta_s=found.ready_s, ahead=found.ahead))

        need = self.estimates.request(job.served, p, init_audio=job.init_audio is not None)
        self.memory.check(job.served, self.estimates.model(job.served) + self.estimates.adapters(job.served), need)
        costs_as = (
            f"{job.served.key}/{c.window_latents}"  # what a pass takes follows from its precision and window, too
        )
        entering = self.scheduler.enter(costs_as, amount_of(c, p), stop, time_left_s, need, forecast)
        with statuses(version), tempfile.TemporaryDirectory(dir=self.scratch, prefix="generation-") as folder:
            with entering as request, memory_bounded(), self.cache.acquire(job.served, need, stop) as (model, mix):
                init_audio = None
                if job.init_audio:
                    path = self.store.blobs.fetch(job.init_audio, Path(folder))
                    init_audio = audio.read(path, c.sample_rate_hz, c.channels, c.window_samples)
                work = Work(model, p, init_audio, _Steps(request, version.name, on_progress), mix, on_piece)
                samples = request.run(work)  # (samples, channels)
            action = self.action(job)
            samples, watermark = self.watermarker.put(
                samples, c.sample_rate_hz, action.digest[:ID_CHARS], Path(folder), stop
            )
            finished = audio.finished(samples, c.sample_rate_hz, job.output_format, job.level)
            samples = finished.samples
            path = audio.write(
                Path(folder), samples, finished.rate_hz, job.output_format, job.tags(prompt=not self.prompts.left_out)
            )
            media_type = audio.FORMATS[job.output_format].media_type
            credentials = self.signer.sign(path, media_type, _statement(job, action.key(1)))
            ref = self.store.blobs.move_file(KIND, path, media_type=media_type)
            logged = self.known.keep(samples, finished.rate_hz, ref, action.key(1), job.served.label, watermark.id)
            metrics.AUDIO_SECONDS.labels(version.name).inc(len(samples) / finished.rate_hz)
            peak_dbfs = audio.peak_dbfs(samples)
            notes = _notes(model, job, peak_dbfs)
            return GenerationResult(
                ref, len(samples), peak_dbfs, request.device_s, notes, finished, credentials, watermark, logged
            )


class _Steps:
    """Tells metrics and caller of each step that is done."""

    def __init__(self, request: AdmittedRequest, model: str, on_progress: OnProgress) -> None:
        self._request, self._on_progress = request, on_progress
        self._done, self._seconds = metrics.STEPS.labels(model), metrics.STEP_SECONDS.labels(model)
        self._before = time.perf_counter()

    def __call__(self, step: int, total: int, sigma: float) -> None:
        now = time.perf_counter()
        self._done.inc()
        self._seconds.observe(now - self._before)
        self._before = now
        eta_s, ahead = self._request.eta_s(), self._request.forecast.ahead
        self._on_progress(pb.GenerateProgress(step=step, total=total, sigma=sigma, eta_s=eta_s, ahead=ahead))


@contextmanager
def memory_bounded() -> Iterator[None]:
    """A device that has no memory left raises Unavailable."""
    try:
        yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        raise out_of_memory() from None


def _statement(job: GenerationJob, action: str) -> Statement:
    """What credentials state of a job's audio: nothing of the prompt, which may be the caller's secret."""
    version = job.served.version
    made_with = [Ingredient(version.label, f"sha256:{version.digest}", MODEL)]
    made_with += [
        Ingredient(each.version.label, f"sha256:{each.artifact.sha256}", MODEL) for each in job.served.adapters
    ]
    if version.dataset:
        made_with.append(Ingredient(version.dataset_name or "data set", f"sha256:{version.dataset.sha256}", DATASET))
    if job.init_audio:
        made_with.append(Ingredient("the sound that it was made from", f"sha256:{job.init_audio.sha256}"))
    return Statement(
        title=f"{job.served.label}, seed {job.parameters.seed}",
        model=job.served.label,
        model_digest=job.model_digests(),
        seed=job.parameters.seed,
        action=action,
        ingredients=tuple(made_with),
        from_audio=job.init_audio is not None,
    )


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
