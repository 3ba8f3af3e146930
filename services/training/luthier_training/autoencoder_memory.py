"""Whether training an autoencoder fits into the memory of its device: counted before anything is loaded.

A step of autoencoder and discriminator is computed on tensors without data, by the code that will run, as `memory` does
for fine-tuning. Most of what it takes is the discriminator's, which grows with its filters and the crops.
"""

import functools
import json
from collections.abc import Callable
from typing import Final

import torch

from luthier.training.v1.training_pb2 import TrainAutoencoder, TrainingMemory
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_model import network
from luthier_model.configuration import Configuration, check
from luthier_model.live_bytes import LiveBytes, without_data
from luthier_model.memory import bytes_of, text_of
from luthier_training.ahead import DEPTH
from luthier_training.autoencoder_state import Trained
from luthier_training.job import Job
from luthier_training.memory import Budget, Counted
from luthier_training.reconstruction import SpectralLoss, discriminator_of
from luthier_training.requests import MIN_WINDOW

WAITING: Final = DEPTH + 1
"""Batches of crops that are drawn ahead of their step."""
DECISIVE: Final = ("decoder_only", "random_start", "discriminator_filters", "a_weighting")
"""Fields that decide what is computed and what is kept, beside batch and window."""
SWITCHES: Final = (
    "spectral_weight", "sample_weight", "adversarial_weight", "feature_matching_weight", "kl_weight", "ema_decay",
)  # fmt: skip
"""Fields that do where they are not 0; recipes that differ in such numbers alone are counted once."""
Losses = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""`recipes.autoencoder.batch_losses`."""


def check_memory(job: Job, known: Configuration, base: ModelVersion, held_out: int, losses: Losses) -> None:
    """Notes what the run takes. InvalidRequest where it does not fit, by the field that must change and its bound.

    `held_out`: crops that validation keeps in memory.
    """
    recipe, device, budget, ranks = job.request.autoencoder, job.device, Budget.of(job), job.ranks.count
    others = beside_what_is_trained(known, base, again=recipe.random_start) if device == "cpu" else 0

    def needed(rows: int, window: int, **changed: bool | int) -> int:
        """Bytes at most. A CPU holds the rest of the base besides, and the crops that wait."""
        asked = TrainAutoencoder(batch_size=rows, window_samples=window, accumulate=1)
        for field in DECISIVE:
            setattr(asked, field, changed.get(field, getattr(recipe, field)))
        for field in SWITCHES:
            setattr(asked, field, 0.5 if getattr(recipe, field) else 0.0)
        counted = count(text_of(known), asked.SerializeToString(deterministic=True), losses)
        crops = 4 * known.channels * window * (held_out + WAITING * recipe.batch_size) if device == "cpu" else 0
        return counted.most(device) + others + crops

    rows, window, ratio = recipe.batch_size // ranks, recipe.window_samples, known.downsampling_ratio
    least = min(-(-MIN_WINDOW // ratio) * ratio, window)
    judged = bool(recipe.adversarial_weight or recipe.feature_matching_weight)
    fewer = f", or fewer discriminator_filters than {recipe.discriminator_filters}" if judged else ""
    whole = needed(rows, window)
    if whole <= budget.bound:
        job.reporter.progress.memory.CopyFrom(TrainingMemory(needed_bytes=whole, free_bytes=budget.free))
        return
    one, shortest = needed(1, window), needed(1, least)
    lacking = budget.lacking("a step on one crop", one)
    if one <= budget.bound:
        most = most_that_fits((1, one), (rows, whole), budget.bound) * ranks
        bound = f"must be at most {most} for crops of {window} samples on this machine, with a larger accumulate{fewer}"
        field, lacking = "batch_size", budget.lacking("a step", whole)
    elif shortest <= budget.bound:
        most = most_that_fits((least // ratio, shortest), (window // ratio, one), budget.bound) * ratio
        field, bound = "window_samples", f"must be at most {most} on this machine{fewer}"
    elif judged and needed(1, least, discriminator_filters=1) <= budget.bound:
        field, bound = "discriminator_filters", f"must be fewer than {recipe.discriminator_filters} on this machine"
    elif not recipe.decoder_only and needed(1, least, decoder_only=True, random_start=False) <= budget.bound:
        field, bound = "decoder_only", "must be true on this machine"
    else:
        field, bound = "base_model", "must be a smaller model on this machine"
    raise InvalidRequest(violations=[(f"autoencoder.{field}", f"{bound}: {lacking}")])


def most_that_fits(few: tuple[int, int], many: tuple[int, int], bound: int) -> int:
    """How many fit below a bound, of two counts and their bytes of which the first fits.

    The bytes at each time of a step are linear in rows and in samples, so the most at any time are convex: what lies on
    the straight line between two counts is not less than what is taken there.
    """
    (low, fits), (high, fits_not) = few, many
    return low + (bound - fits) * (high - low) // (fits_not - fits)


def beside_what_is_trained(known: Configuration, base: ModelVersion, *, again: bool) -> int:
    """Bytes of the base that a run keeps for its export: transformer, conditioners and text encoder; of a run that
    begins with random weights the autoencoder, too.
    """
    model = network.skeleton(known)
    kept = bytes_of(*model.parameters(), *model.buffers())
    own = bytes_of(*model.pretransform.model.parameters(), *model.pretransform.model.buffers())
    text = sum(ref.size_bytes for name, ref in base.text_encoder if name.endswith(".safetensors"))
    return kept + text - (0 if again else own)


@functools.lru_cache(maxsize=64)
def count(document: str, recipe: bytes, losses: Losses) -> Counted:
    """What a step takes; `model` is autoencoder, discriminator and the constants of the losses."""
    known, asked = check(json.loads(document)), TrainAutoencoder.FromString(recipe)
    with without_data(), torch.random.fork_rng(devices=[]):
        autoencoder = network.skeleton(known, "cpu").pretransform.model
        spectral = SpectralLoss(known.sample_rate_hz, known.channels, a_weighting=asked.a_weighting)
        discriminator = discriminator_of(asked, known.channels, 0)
        trained = Trained.prepare(autoencoder, discriminator, asked)
        modules = [module for module in (autoencoder, spectral, discriminator) if module is not None]
        model = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        gradients = [learner.gradient for learner in (trained.generator, trained.critic) if learner]
        averaged = list(trained.average.ema_model.parameters()) if trained.average is not None else []
        with LiveBytes([*model, *gradients, *averaged]) as live:
            audio = torch.zeros(asked.batch_size, known.channels, asked.window_samples)
            latents = asked.window_samples // known.downsampling_ratio
            noise = torch.zeros(asked.batch_size, known.latent_channels, latents)
            losses(trained, spectral, asked, audio, noise, listens=True)
        return Counted(bytes_of(*model), bytes_of(*gradients), bytes_of(*averaged), live.peak)
