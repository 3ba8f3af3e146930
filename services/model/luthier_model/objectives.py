"""What a model was trained to predict: how latents and noise are mixed, what the network's target is, how it samples.

* `v` (Salimans and Ho 2022): on a circle from the latents to noise.
* `rectified_flow` (Liu 2023, "Flow Straight and Fast"): on a straight line; the target is its velocity.
* `rf_denoiser`: a rectified flow that was post-trained to take few steps (ARC, Novack 2025, "Fast Text-to-Audio
  Generation with Adversarial Post-Training"); the target of fine-tuning is the flow's.

Timesteps go from 0 = the latents to 1 = noise alone. Services read configurations without loading torch: only methods
of tensors are used here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

V, RECTIFIED_FLOW, RF_DENOISER = "v", "rectified_flow", "rf_denoiser"


@dataclass(frozen=True)
class Objective:
    """An objective and what takes effect where a request for audio leaves a value out.

    `samplers`: those that it takes, the default first. `sigma_max` is the highest noise level, `sigma_limit` the bound
    of what may be asked for; a flow's levels are timesteps. `sigma_min` is 0 where the schedule has no lowest level.
    `lowest_start` is the lowest level that a schedule can begin with.
    """

    name: str
    flow: bool
    samplers: tuple[str, ...]
    steps: int
    guidance_scale: float
    sigma_max: float
    sigma_limit: float
    init_noise_level: float
    sigma_min: float = 0.0
    lowest_start: float = 0.0

    def along(self, sampler: str) -> Objective:
        """What takes effect with one of its samplers: along timesteps other noise levels do."""
        if sampler not in TIMESTEP_SAMPLERS:
            return self
        return replace(
            self, sigma_min=0.0, sigma_max=1.0, sigma_limit=1.0, init_noise_level=0.5, lowest_start=LOWEST_TIMESTEP
        )

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given, and what it should answer.

        `latents`, `noise`: (batch, latent channels, latents); `timesteps`: (batch,).
        """
        times = timesteps[:, None, None]
        if self.flow:
            return latents * (1 - times) + noise * times, noise - latents
        angle = times * math.pi / 2
        alpha, sigma = angle.cos(), angle.sin()
        return latents * alpha + noise * sigma, noise * alpha - latents * sigma


TIMESTEP_SAMPLERS: Final = ("v-ddim", "v-ddim-cfgpp")
"""Samplers of a network that predicts v whose levels are timesteps, as a flow's are: `sigma_max` is at most 1."""
LOWEST_TIMESTEP: Final = 0.001
# Steps, guidance and samplers of the flows are those of stable-audio-tools' own interface, `v`'s those of Stable Audio
# Open's model card. Half noise and half audio is to a flow what sigma 1 is to `v`.
FLOW_SAMPLERS: Final = ("euler", "dpmpp", "rk4")
LOWEST_START: Final = 0.12
"""The flows' schedule ends at the log signal-to-noise ratio 2, level 0.119: beginning below, levels would go up."""
OBJECTIVES: Final[Mapping[str, Objective]] = {
    V: Objective(
        V,
        flow=False,
        samplers=(
            "dpmpp-3m-sde",
            "dpmpp-2m-sde",
            "dpmpp-2m",
            "k-heun",
            "k-euler",
            "k-lms",
            "k-dpm-2",
            "k-dpm-fast",
            "k-dpm-adaptive",
            "k-dpmpp-2s-ancestral",
            *TIMESTEP_SAMPLERS,
        ),
        steps=100,
        guidance_scale=7.0,
        sigma_min=0.3,  # Stable Audio Open's own choice, not stable-audio-tools' 0.01
        sigma_max=500.0,
        sigma_limit=10_000.0,
        init_noise_level=1.0,
    ),
    RECTIFIED_FLOW: Objective(
        RECTIFIED_FLOW,
        flow=True,
        samplers=FLOW_SAMPLERS,
        steps=50,
        guidance_scale=7.0,
        sigma_max=1.0,
        sigma_limit=1.0,
        init_noise_level=0.5,
        lowest_start=LOWEST_START,
    ),
    RF_DENOISER: Objective(
        RF_DENOISER,
        flow=True,
        samplers=("pingpong", *FLOW_SAMPLERS),
        steps=8,
        guidance_scale=1.0,
        sigma_max=1.0,
        sigma_limit=1.0,
        init_noise_level=0.5,
        lowest_start=LOWEST_START,
    ),
}


@dataclass(frozen=True)
class TimestepShift:
    """Moves timesteps towards noise, the more the longer the sequence (Esser 2024, section 5.3.2).

    The library's `distribution_shift_options`, with its defaults. Lengths are in latents; between `min_length` and
    `max_length` the shift goes from `base_shift` to `max_shift`, beyond it stays (stable-audio-tools 0.0.19
    extrapolates; its later sources do not).
    """

    base_shift: float = 0.5
    max_shift: float = 1.15
    max_length: int = 4096
    min_length: int = 256
    use_sine: bool = False

    def __call__(self, timesteps: Tensor, latents: int) -> Tensor:
        """Timesteps, 0 to 1, moved for a window of so many latents; 0 and 1 stay."""
        share = (min(max(latents, self.min_length), self.max_length) - self.min_length) / (
            self.max_length - self.min_length
        )
        factor = math.exp(self.base_shift + (self.max_shift - self.base_shift) * share)
        moved = timesteps * factor / (1 + (factor - 1) * timesteps)
        return (moved * math.pi / 2).sin() if self.use_sine else moved
