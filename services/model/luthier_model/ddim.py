"""DDIM (Song 2021) of a network that predicts v, along its own timesteps: 1 = noise alone, 0 = the latents.

The samplers are generators as those of `sampling.py`; `x` is what the network is given, of unit variance, and the
answer is v. Names, levels and formulas are those of stable-audio-tools' `sample`:
* `v-ddim`: deterministic, first order, one evaluation a step.
* `v-ddim-cfgpp`: CFG++ (Chung 2024): the clean latents by the guided answer, the noise by the unguided one. Made for
  guidance scales from 0 to 1.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from torch import Tensor

from luthier_model.sampling import Evaluation, Noise, Sampler, Sampling


def levels(steps: int, start: float = 1.0) -> list[float]:
    """`start` to 0.0 in even steps of time: steps + 1 floats. ValueError unless steps >= 1 and 0 < start <= 1."""
    if steps < 1 or not 0 < start <= 1:
        raise ValueError(f"need steps >= 1 and 0 < start <= 1, got {steps}, {start}")
    return [start * (1 - step / steps) for step in range(steps)] + [0.0]


def shares(t: float) -> tuple[float, float]:
    """What of the latents and what of the noise is in `x` at a timestep."""
    return math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)


def ddim(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """One evaluation a step. `noise` is not drawn from."""
    del noise
    for step, (t, following) in enumerate(pairwise(levels)):
        velocity = yield Evaluation(x, t, step)
        x = _stepped(x, t, following, velocity, velocity)
    return x


def ddim_cfgpp(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """One evaluation a step, of both branches. `noise` is not drawn from."""
    del noise
    for step, (t, following) in enumerate(pairwise(levels)):
        guided, unguided = (yield Evaluation(x, t, step, both=True)).chunk(2)
        x = _stepped(x, t, following, guided, unguided)
    return x


def _stepped(x: Tensor, t: float, following: float, clean_by: Tensor, noise_by: Tensor) -> Tensor:
    (alpha, sigma), (alpha_next, sigma_next) = shares(t), shares(following)
    return (x * alpha - clean_by * sigma) * alpha_next + (x * sigma + noise_by * alpha) * sigma_next


DDIM_SAMPLERS: Final[Mapping[str, Sampler]] = {"v-ddim": ddim, "v-ddim-cfgpp": ddim_cfgpp}
