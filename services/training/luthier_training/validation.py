"""Loss on held-out songs with fixed noise and fixed timesteps, so that two models or two steps can be
compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier_training.examples import Example
from luthier_training.ranks import ALONE, Ranks
from luthier_training.seeds import seed_of

TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The library's own choice: from nearly clean (0) to nearly noise (1)."""
MAX_EXAMPLES = 256
"""More clips would say little more and cost minutes."""


@torch.no_grad()
def validation_loss(
    model: ConditionedDiffusionModelWrapper, examples: Sequence[Example], seed: int, device: str, ranks: Ranks = ALONE
) -> float:
    """Mean squared error of `v` (Salimans 2022) over clips and timesteps; each clip with its first prompt. Ranks share
    the clips.
    """
    was_training = model.model.training
    model.model.eval()
    count = min(len(examples), MAX_EXAMPLES)
    errors = [
        _error(model, examples[index], timestep, seed_of(seed, "validation", index, timestep), device)
        for index in range(ranks.rank, count, ranks.count)
        for timestep in TIMESTEPS
    ]
    model.model.train(was_training)
    [mean] = ranks.means([math.fsum(errors)])
    return mean * ranks.count / (count * len(TIMESTEPS))


def _error(model: ConditionedDiffusionModelWrapper, example: Example, timestep: float, seed: int, device: str) -> float:
    generator = torch.Generator().manual_seed(seed)
    latents = example.latents.sample(generator)[None].to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    alpha, sigma = math.cos(timestep * math.pi / 2), math.sin(timestep * math.pi / 2)
    conditions = model.conditioner([example.row(example.prompts[0])], device)
    output = model(latents * alpha + noise * sigma, torch.tensor([timestep], device=device), cond=conditions)
    return float(torch.nn.functional.mse_loss(output, noise * alpha - latents * sigma))
