"""What a person sees of a run while it trains: losses, learning rate and gradient, and audio that the model makes.

All of it goes into TensorBoard event files, kept in the store in parts. A part ends at each validation and at each
checkpoint, so a run that goes on from a checkpoint keeps the parts up to there and drops the others: its log holds each
step once. Observing draws no random number of the process and changes no weight.
"""

import copy
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
import torch
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper
from torch.utils.tensorboard.writer import SummaryWriter

from luthier.training.v1.training_pb2 import FineTune, TimestepLoss, TrainingLog, TrainingSample
from luthier_kit.rpc import FailedPrecondition, LuthierError
from luthier_model import generation
from luthier_model.configuration import Configuration
from luthier_model.generation import GenerationParameters, Samples
from luthier_training.examples import Example
from luthier_training.job import Job
from luthier_training.seeds import seed_of
from luthier_training.trackers import Trackers

log = logging.getLogger(__name__)
SAMPLES_KIND, LOGS_KIND = "training-samples", "training-logs"
"""Kinds of blobs."""
BINS = 5
"""Of timesteps, in which losses of training are averaged: a validation timestep lies in the middle of each."""
MAX_LOGGED_STEPS = 10_000
"""Of a longer run every so many steps are logged. TensorBoard itself shows a thousand points of a curve."""
MAX_LOGS = 64
"""Parts of a log that a run lists; more are put together to as many as it may need to go on, which is three."""

Prompt = GenerationParameters
"""What is generated at each validation: the same prompt, seed and length each time."""


def prompts_to_sample(
    recipe: FineTune, seed: int, held_out: Sequence[Example], configuration: Configuration
) -> list[Prompt]:
    """The run's own prompts, as long as the window; else those of validation clips, evenly chosen, as long as these."""
    longest_s = min(configuration.window_s, configuration.seconds_max)
    asked = [(prompt, longest_s) for prompt in recipe.sample_prompts]
    count = min(recipe.samples, len(held_out))
    for index in range(count if not asked else 0):
        example = held_out[index * len(held_out) // count]
        asked.append((example.prompts[0], min(longest_s, example.latents.seconds_total)))
    own = configuration.objective  # what inference takes where nothing is said
    return [
        Prompt(
            prompt,
            seed_of(seed, "sample", number),
            seconds_total,
            steps=min(recipe.sample_steps, own.steps),
            sampler=own.samplers[0],
            sigma_min=own.sigma_min,
            sigma_max=own.sigma_max,
            guidance_scale=configuration.guidance_scale,
            guidance_rescale=configuration.guidance_rescale,
        )
        for number, (prompt, seconds_total) in enumerate(asked)
    ]


@dataclass(frozen=True)
class Sound:
    """A sample to log: its number among the run's prompts, and its sound."""

    number: int
    prompt: str
    samples: Samples
    sample_rate_hz: int


@dataclass
class Observed:
    """What was observed since the last part of the log: tag, step, value and seconds since 1970; sounds by step."""

    first_step: int = 0
    values: list[tuple[str, int, float, float]] = field(default_factory=list)
    sounds: list[tuple[int, Sound]] = field(default_factory=list)

    def value(self, tag: str, step: int, value: float) -> None:
        self.values.append((tag, step, value, time.time()))

    def write(self, folder: Path) -> Path:
        """The event file of it all."""
        writer = SummaryWriter(str(folder), filename_suffix=".tfevents")
        for tag, step, value, at in self.values:
            writer.add_scalar(tag, value, step, walltime=at)
        for step, sound in self.sounds:
            tag, mono = f"samples/{sound.number + 1}", torch.from_numpy(sound.samples.mean(axis=1)).clamp(-1, 1)
            writer.add_audio(tag, mono, step, sound.sample_rate_hz)
            if step == 0:
                writer.add_text(f"{tag}/prompt", sound.prompt, step)
        writer.close()
        [path] = folder.iterdir()
        return path


class Observer:
    """Observes one attempt at a run. Every rank calls the same methods; rank 0 samples and stores.

    What goes wrong with it is a warning: it never ends a run.
    """

    def __init__(
        self, job: Job, model: ConditionedDiffusionModelWrapper, configuration: Configuration, prompts: Sequence[Prompt]
    ) -> None:
        self._job, self._model, self._configuration, self._prompts = job, model, configuration, prompts
        self._every = math.ceil(job.request.fine_tune.steps / MAX_LOGGED_STEPS)
        self._observed, self._last, self._trackers = Observed(), 0, Trackers.of(job)
        # losses by timestep: their sums and numbers, on the device, so that no step waits for them
        self._training, self._validation = (
            torch.zeros(2, BINS, dtype=torch.float64, device=job.device) for _ in range(2)
        )

    def resume(self, step: int) -> None:
        """The run goes on behind this step, 0 = begins: what was observed later will be observed again."""
        progress = self._job.reporter.progress
        samples = [copy.deepcopy(each) for each in progress.samples if step and each.step <= step]
        logs = [copy.deepcopy(each) for each in progress.logs if step and each.last_step <= step]
        del progress.samples[:], progress.logs[:]
        progress.samples.extend(samples)
        progress.logs.extend(logs)
        self._observed, self._last = Observed(first_step=step + 1 if step else 0), step

    def rows(self, timesteps: torch.Tensor, losses: torch.Tensor) -> None:
        """The loss of each row of a batch, (batch,), at its timestep, (batch,)."""
        _add(self._training, timesteps, losses)

    def step(self, step: int, *, loss: float, learning_rate: float, gradient_norm: float) -> None:
        """A step of training is done."""
        progress, self._last = self._job.reporter.progress, step
        progress.learning_rate, progress.gradient_norm = learning_rate, gradient_norm
        if step % self._every and step != self._job.request.fine_tune.steps:
            return
        values = {"loss": loss, "learning_rate": learning_rate, "gradient_norm": gradient_norm}
        for name, value in values.items():
            self._value(f"train/{name}", step, value)

    def validation_rows(self, timesteps: torch.Tensor, losses: torch.Tensor) -> None:
        """The loss of each row of a validation, (batch,), at its timestep, (batch,)."""
        _add(self._validation, timesteps, losses)

    def validated(self, step: int, loss: float, transformer: torch.nn.Module) -> None:
        """A validation is done: its loss, of `transformer`, the model's own or its average."""
        self._value("validation/loss", step, loss)
        by_timestep = self._job.reporter.progress.validation_by_timestep
        del by_timestep[:]
        for place, mean in self._means(self._validation):
            timestep = (place + 0.5) / BINS
            self._value(f"validation_by_timestep/{timestep:.1f}", step, mean)
            by_timestep.append(TimestepLoss(timestep=timestep, loss=mean))
        if not self._job.ranks.rank:
            self._sample(step, transformer)

    def end_part(self, step: int) -> None:
        """Stores what was observed up to this step as a part of the log, and lists it in the run."""
        for place, mean in self._means(self._training):
            low, high = place / BINS, (place + 1) / BINS
            self._value(f"train_by_timestep/{low:.1f}_to_{high:.1f}", step, mean)
        if self._job.ranks.rank or not (self._observed.values or self._observed.sounds):
            return
        try:
            with tempfile.TemporaryDirectory(dir=self._job.folder("logs")) as folder:
                events = self._job.store.blobs.put_file(LOGS_KIND, self._observed.write(Path(folder)))
                logs = self._job.reporter.progress.logs
                logs.append(TrainingLog(first_step=self._observed.first_step, last_step=step, events=events))
                if len(logs) > MAX_LOGS:
                    self._put_together(Path(folder))
        except (LuthierError, OSError) as error:  # the next part holds it
            log.warning("what was observed up to step %d is not stored yet: %s", step, error)
        else:
            self._observed = Observed(first_step=step + 1)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """When the run fails in the block, what was observed up to there is kept: that is what people look at then.
        In the block it is reported to trackers, too.
        """
        with self._trackers:
            try:
                yield
            except FailedPrecondition:
                if self._job.ranks.count == 1:  # the others may not be there to average with
                    self.end_part(self._last)
                    self._job.reporter.publish()
                raise

    def _value(self, tag: str, step: int, value: float) -> None:
        self._observed.value(tag, step, value)
        self._trackers.report(tag, step, value)

    def _means(self, bins: torch.Tensor) -> list[tuple[int, float]]:
        """Place and mean of each bin that holds a loss of any rank; the bins are empty afterwards."""
        self._job.ranks.average(bins)
        means = [(place, total / count) for place, (total, count) in enumerate(bins.T.tolist()) if count]
        bins.zero_()
        return means

    def _put_together(self, folder: Path) -> None:
        """Parts between which no checkpoint lies, to which the run could go back, become one: event files are
        sequences of records, and one behind the other is a file again.
        """
        progress = self._job.reporter.progress
        ends = (progress.previous_checkpoint_step, progress.checkpoint_step, self._job.request.fine_tune.steps)
        joined, first = list[TrainingLog](), 0
        for end in sorted(set(ends)):
            parts = [part for part in progress.logs if first <= part.last_step <= end]
            first = end + 1
            if not parts:
                continue
            path = folder / f"{end}.tfevents"
            with path.open("wb") as file:
                for part in parts:
                    file.write(self._job.store.blobs.fetch(part.events, folder).read_bytes())
            events = self._job.store.blobs.put_file(LOGS_KIND, path)
            joined.append(TrainingLog(first_step=parts[0].first_step, last_step=parts[-1].last_step, events=events))
        del progress.logs[:]
        progress.logs.extend(joined)

    def _sample(self, step: int, transformer: torch.nn.Module) -> None:
        """Generates of every prompt; none when the run should stop meanwhile."""
        began = time.process_time()
        for number, prompt in enumerate(self._prompts):
            try:
                samples = generated(
                    self._model, transformer, self._configuration, prompt, going=lambda: self._job.reporter.going
                )
                if samples is None:
                    return
                self._keep(step, number, prompt, samples)
            except Exception:
                log.warning("sample %d of step %d failed", number + 1, step, exc_info=True)
        if self._prompts:
            log.info("%d samples of step %d took %.1f CPU s", len(self._prompts), step, time.process_time() - began)

    def _keep(self, step: int, number: int, prompt: Prompt, samples: Samples) -> None:
        rate_hz = self._configuration.sample_rate_hz
        with tempfile.TemporaryDirectory(dir=self._job.folder("samples")) as folder:
            path = Path(folder) / "sample.flac"
            soundfile.write(path, samples.clip(-1.0, 1.0), rate_hz, "PCM_16")
            audio = self._job.store.blobs.put_file(SAMPLES_KIND, path, "audio/flac")
        sample = TrainingSample(
            step=step, prompt=prompt.prompt, seed=prompt.seed, seconds_total=prompt.seconds_total, audio=audio
        )
        self._job.reporter.progress.samples.append(sample)
        self._observed.sounds.append((step, Sound(number, prompt.prompt, samples, rate_hz)))


def _add(bins: torch.Tensor, timesteps: torch.Tensor, losses: torch.Tensor) -> None:
    """Losses at timesteps, (batch,) each, into (sums and numbers, bins)."""
    places = (timesteps * BINS).long().clamp(max=BINS - 1)
    bins.index_add_(1, places, torch.stack([losses.double(), torch.ones_like(losses).double()]))


def generated(
    model: ConditionedDiffusionModelWrapper,
    transformer: torch.nn.Module,
    configuration: Configuration,
    prompt: Prompt,
    going: Callable[[], bool] = lambda: True,
) -> Samples | None:
    """(samples, channels) as inference would generate them with this transformer in the model; None once `going` is
    false.
    """
    device = next(transformer.parameters()).device
    precision = "bfloat16" if device.type == "cuda" else "float32"
    with unchanged(model, transformer) as network:
        ready = generation.prepare(network, configuration, device, precision)
        for step in generation.denoise(ready, prompt):
            if not going():
                return None
            if step.number == step.total:
                return generation.decode(ready, prompt, step.latents)
    return None


@contextmanager
def unchanged(
    model: ConditionedDiffusionModelWrapper, transformer: torch.nn.Module
) -> Iterator[ConditionedDiffusionModelWrapper]:
    """The model with this transformer, ready to generate; afterwards everything trains on as before.

    Modes, the methods that generating replaces, torch's random state and what is set of cuDNN are put back.
    """
    network = copy.copy(model)
    network.__dict__["_modules"] = {**model._modules, "model": transformer}
    before = [(module, module.training, vars(module).get("forward")) for module in network.modules()]
    tf32 = torch.backends.cudnn.allow_tf32
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            network.eval()
            yield network
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
        for module, training, forward in before:
            module.training = training
            if forward is None:
                vars(module).pop("forward", None)
            else:
                vars(module)["forward"] = forward
