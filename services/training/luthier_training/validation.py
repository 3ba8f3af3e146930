"""Loss on held-out songs with fixed noise and fixed timesteps, so that two models or two steps can be
compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier_training.examples import Example, seed_of

TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The library's own choice: from nearly clean (0) to nearly noise (1)."""
MAX_EXAMPLES = 256
"""More clips would say little more and cost minutes."""


@torch.no_grad()
def validation_loss(
    model: ConditionedDiffusionModelWrapper, examples: Sequence[Example], seed: int, device: str
) -> float:
    """Mean squared error of `v` (Salimans 2022) over clips and timesteps; each clip with its first prompt."""
    was_training = model.model.training
    model.model.eval()
    errors = [
        _error(model, example, timestep, seed_of(seed, "validation", index, timestep), device)
        for index, example in enumerate(examples[:MAX_EXAMPLES])
        for timestep in TIMESTEPS
    ]
    model.model.train(was_training)
    return math.fsum(errors) / len(errors)


def _error(model: ConditionedDiffusionModelWrapper, example: Example, timestep: float, seed: int, device: str) -> float:
    generator = torch.Generator().manual_seed(seed)
    latents = example.latents.sample(generator)[None].to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    alpha, sigma = math.cos(timestep * math.pi / 2), math.sin(timestep * math.pi / 2)
    conditions = model.conditioner([example.row(example.prompts[0])], device)
    output = model(latents * alpha + noise * sigma, torch.tensor([timestep], device=device), cond=conditions)
    return float(torch.nn.functional.mse_loss(output, noise * alpha - latents * sigma))
