"""What a model's family adds to a training batch: timesteps moved towards noise, and masks for a model that fills in
what they leave out; and whether its network can recompute activations.

All of it follows from (seed, batch number), as the batch does.
"""

import random
from dataclasses import replace

import torch
from stable_audio_tools.models.diffusion import DiTWrapper

from luthier_model.configuration import Configuration, Masks
from luthier_training.examples import Batch, Conditions
from luthier_training.seeds import seed_of

GAPS, NOTHING, BEGINNING = range(3)
"""What a mask keeps: all but random gaps, nothing, a beginning. The order of `Masks.probabilities`."""


def as_trained(batch: Batch, known: Configuration, seed: int, number: int) -> Batch:
    """Batch `number` of a run as this family is trained on it; the same batch for the family of Stable Audio Open."""
    window = batch.latents.shape[-1]
    if shift := known.timestep_shift:
        batch = replace(batch, timesteps=shift(batch.timesteps, window))
    if masks := known.masks:
        draw = random.Random(seed_of(seed, "masks", number))
        kept = [draw_mask(draw, masks, window, sounding(said, known)) for said in batch.conditions]
        batch = replace(batch, kept=torch.stack(kept))
    return batch


def recomputing(network: torch.nn.Module, *, wanted: bool) -> dict[str, bool]:
    """How the library's network is told to recompute activations, or not to; its U-Net cannot."""
    return {"use_checkpointing": wanted} if isinstance(network, DiTWrapper) else {}


def sounding(said: Conditions, known: Configuration) -> int:
    """How many latents of the window hold the clip, the rest being silence."""
    samples = round((said["seconds_total"] - said["seconds_start"]) * known.sample_rate_hz)
    return -(-min(max(samples, 0), known.window_samples) // known.downsampling_ratio)


def draw_mask(draw: random.Random, masks: Masks, window: int, length: int) -> torch.Tensor:
    """(1, window): 1 where latents are kept, 0 where they are to be made.

    The library's `random_inpaint_mask`, draw for draw: gaps and the end of a beginning lie within the clip's `length`
    latents, what is silence behind it is kept; nothing is kept of all.
    """
    (kind,) = draw.choices((GAPS, NOTHING, BEGINNING), weights=masks.probabilities, k=1)
    mask = torch.ones(1, window)
    if kind == NOTHING:
        mask.zero_()
    elif kind == GAPS and length:
        count = draw.randint(1, masks.max_segments)
        longest = max(1, length // count)
        for _ in range(count):
            gap = draw.randint(1, longest)
            start = draw.randint(0, length - gap)
            mask[:, start : start + gap] = 0
    elif kind == BEGINNING and length:
        mask[:, draw.randint(0, length) : length] = 0
    return mask
