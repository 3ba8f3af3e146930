"""Whether a fine-tuning run fits into the memory of its device, and how: counted before anything is loaded.

What a step, an encoding and a decoding take is counted on tensors without data, by the code that will run. So it holds
for every family of models, for an adapter as for all weights, with and without recomputed activations. Beside it lie
weights, gradient, AdamW's moments, the moving average and, where the device is the CPU, the copy of a checkpoint that
is being written.
"""

import functools
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final, NoReturn

import torch
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier.training.v1.training_pb2 import FineTune, TrainingMemory
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_model import network
from luthier_model.configuration import Configuration, check
from luthier_model.live_bytes import LiveBytes, norms_in_float32, without_data
from luthier_model.memory import CUDA_RESERVE, GIB, MARGIN, AnyPrompt, bytes_of, free_bytes, text_of, with_copies
from luthier_training.checkpoints import Trained
from luthier_training.clip_encoder import SHORTEST_SPAN, SPAN_VALUES, ClipEncoder
from luthier_training.examples import Batch
from luthier_training.job import Job
from luthier_training.plan import plan_of

SPAN_TENSORS: Final = 4
"""Tensors of a span that are there at once while it is encoded: a residual unit's input, what a convolution reads and
gives, and its scratch memory."""


@dataclass(frozen=True)
class Computation:
    """What a run does with its model: what is trained of it, and the loss of a batch."""

    prepare: Callable[[ConditionedDiffusionModelWrapper, FineTune], Trained]
    loss: Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Counted:
    """Bytes. `model`: all weights but the text encoder's; `gradient`, `average`: of what is trained; `step`: beside
    them while a step is computed, at most.
    """

    model: int
    gradient: int
    average: int
    step: int

    def kept(self, device: str) -> int:
        """From the first step to the last."""
        moments = 2 * self.gradient
        copy = self.gradient + moments + self.average if device == "cpu" else 0  # of a checkpoint that is written
        return self.model + self.gradient + moments + self.average + copy

    def most(self, device: str) -> int:
        """At any time of training; AdamW takes the roots of all second moments at once."""
        return self.kept(device) + max(self.step, self.gradient)


@dataclass(frozen=True)
class Budget:
    """Memory that a run may take on its device, bytes."""

    device: str
    free: int

    @classmethod
    def of(cls, job: Job) -> "Budget":
        """What is free now; ranks on CPUs share it, on GPUs each has its own."""
        return cls(job.device, free_bytes(job.device) // (job.ranks.count if job.device == "cpu" else 1))

    @property
    def bound(self) -> int:
        """What may be counted at most."""
        return round((self.free - (CUDA_RESERVE if self.device == "cuda" else 0)) / (1 + MARGIN))

    def lacking(self, what: str, needed: int) -> str:
        """What is said of a need that is beyond it."""
        free = f"{self.free / GIB:.2f} GiB are free on this {self.device}"
        return f"{what} needs {needed / GIB:.2f} GiB and {MARGIN:.0%} more, {free}"


def choose(job: Job, known: Configuration, base: ModelVersion, computation: Computation) -> bool:
    """Whether the run recomputes activations, which it does where it does not fit without. Notes what was counted.

    InvalidRequest names the field, its bound and what else may change where it fits neither way.
    """
    recipe, device, budget = job.request.fine_tune, job.device, Budget.of(job)
    text = sum(ref.size_bytes for name, ref in base.text_encoder if name.endswith(".safetensors"))
    stays = text if recipe.metadata_share else 0
    rows, field = largest_share(job)

    def counted(rows: int, *, recompute: bool) -> Counted:
        key = (text_of(known), decisive(recipe).SerializeToString(deterministic=True))
        return _count(*key, rows, device == "cuda", recompute, computation)

    plain = counted(rows, recompute=False)
    if (needed := plain.model + text + _encoding_bytes(text_of(known), device)) > budget.bound:
        _refuse(recipe, budget.lacking(f"to encode the window of {known.window_s:.1f} s", needed))
    samples = recipe.samples or recipe.sample_prompts
    if samples and (needed := plain.kept(device) + stays + _decoding_bytes(text_of(known), device)) > budget.bound:
        field = "fine_tune.sample_prompts" if recipe.sample_prompts else "fine_tune.samples"
        bound = f"must be {'absent' if recipe.sample_prompts else 0}"
        raise InvalidRequest(violations=[(field, f"{bound}: {budget.lacking('to decode a sample', needed)}")])
    needed, recomputes = plain.most(device) + stays, False
    if needed > budget.bound:
        needed, recomputes = counted(rows, recompute=True).most(device) + stays, True
    if needed > budget.bound:
        one, fewer = (counted(count, recompute=True).most(device) + stays for count in (1, max(rows - 1, 1)))
        if one > budget.bound:
            _refuse(recipe, budget.lacking("a step on one clip", one))
        too_many = -(-(needed - budget.bound) // (needed - fewer))  # each row takes the same
        most = (rows - too_many) * job.ranks.count
        bound = f"must be at most {most} for the window of {known.window_s:.1f} s on this machine"
        instead = "" if recipe.HasField("adapter") else ", or ask for an adapter"
        bound += f", with a larger accumulate{instead}"
        raise InvalidRequest(violations=[(field, f"{bound}: {budget.lacking('a step', needed)}")])
    job.reporter.progress.memory.CopyFrom(
        TrainingMemory(needed_bytes=needed, free_bytes=budget.free, recomputes_activations=recomputes)
    )
    return recomputes


def largest_share(job: Job) -> tuple[int, str]:
    """The most rows that a rank computes of a batch of any stage, and the field that says how many."""
    stage = max(plan_of(job.request).stages, key=lambda stage: stage.batch_size)
    field = f"fine_tune.stages[{stage.number}].batch_size" if stage.name else "fine_tune.batch_size"
    return stage.batch_size // job.ranks.count, field


def _refuse(recipe: FineTune, lacking: str) -> NoReturn:
    """InvalidRequest for what no batch size mends."""
    if recipe.window_seconds:
        field, bound = "fine_tune.window_seconds", "must be shorter"
    elif not recipe.HasField("adapter"):
        field, bound = "fine_tune.adapter", "must be given on this machine, or a smaller base_model"
    else:
        field, bound = "fine_tune.base_model", "must be a smaller model on this machine"
    raise InvalidRequest(violations=[(field, f"{bound}: {lacking}")])


def decisive(recipe: FineTune) -> FineTune:
    """What of a recipe decides what is kept and what a step computes, beside its rows: so that what differs in numbers
    alone is counted once.
    """
    what = FineTune(adapter=recipe.adapter) if recipe.HasField("adapter") else FineTune()
    what.ema_decay = 0.5 if recipe.ema_decay else 0.0
    return what


@functools.lru_cache(maxsize=64)
def _count(document: str, recipe: bytes, rows: int, half: bool, recompute: bool, computation: Computation) -> Counted:
    """What a step on so many rows takes; `half`: in bfloat16 where a GPU computes so."""
    known = check(json.loads(document))
    with without_data(), torch.random.fork_rng(devices=[]):
        model = network.skeleton(known, "cpu")
        conditioners = model.conditioner.conditioners
        conditioners[known.text.id] = AnyPrompt(conditioners[known.text.id], known.text.states)
        trained = computation.prepare(model, FineTune.FromString(recipe))
        latents = torch.zeros(rows, known.latent_channels, known.window_latents)
        said = {"prompt": "", "seconds_start": 0.0, "seconds_total": known.window_s}
        batch = Batch(
            latents,
            [said] * rows,  # type: ignore[list-item]
            noise=torch.zeros_like(latents),
            timesteps=torch.zeros(rows),
            dropped=torch.zeros(rows, dtype=torch.bool),
            kept=torch.zeros(rows, 1, known.window_latents) if known.masks else None,
        )
        averaged = [] if trained.average is None else list(trained.average.ema_model.parameters())
        there = [*model.parameters(), *model.buffers(), *averaged]
        with LiveBytes(there) as live, norms_in_float32() if half else nullcontext():
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = computation.loss(model, batch, recompute=recompute)
            loss.backward()  # type: ignore[no-untyped-call]
        tensors = (*model.parameters(), *model.buffers())
        gradient = bytes_of(*trained.gradients.parameters)  # made within the step
        return Counted(bytes_of(*tensors), gradient, bytes_of(*averaged), live.peak - gradient)


@functools.lru_cache(maxsize=64)
def _encoding_bytes(document: str, device: str) -> int:
    """What it takes beside the weights to encode a window as `ClipEncoder` does: of a layer all it reads and twice what
    it gives, in spans and joined, and what a span takes on the way.
    """
    known = check(json.loads(document))
    with without_data(), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = network.skeleton(known, "cpu")
        encoder = ClipEncoder(model, known, "cpu")
        if not encoder.layers:
            with LiveBytes([*model.parameters(), *model.buffers()]) as whole:
                encoder.autoencoder.encode(torch.zeros(1, known.channels, known.window_samples), skip_bottleneck=True)
            return with_copies(whole.peak, device)
        most, channels, samples = 0, known.channels, known.window_samples
        span = SPAN_VALUES[device] * (torch.get_num_threads() if device == "cpu" else 1)
        for layer in encoder.layers:
            given = layer.compute(torch.zeros(1, channels, layer.stride * math.ceil(layer.reach / layer.stride + 1)))
            read, made = channels * samples, given.shape[1] * samples // layer.stride
            on_the_way = SPAN_TENSORS * min(max(span, SHORTEST_SPAN * layer.reach * layer.width), layer.width * samples)
            most = max(most, read + 2 * made + on_the_way)
            channels, samples = given.shape[1], samples // layer.stride
        return 4 * most


@functools.lru_cache(maxsize=64)
def _decoding_bytes(document: str, device: str) -> int:
    """What it takes beside the weights to decode a window."""
    known = check(json.loads(document))
    with without_data(), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = network.skeleton(known, "cpu")
        with LiveBytes([*model.parameters(), *model.buffers()]) as decoding:
            model.pretransform.decode(torch.zeros(1, known.latent_channels, known.window_latents))
    return with_copies(decoding.peak, device)
