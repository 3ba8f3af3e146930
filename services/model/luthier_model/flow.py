"""From noise to latents along a rectified flow (Liu 2023): its levels and samplers.

The network answers a velocity; a level `t` is the share of noise, 1 = noise alone, 0 = the latents. The samplers are
generators as those of `sampling.py`; names, levels and solvers are those of stable-audio-tools' `sample_rf`:
* `euler`, `rk4`: first order, and Runge and Kutta's fourth, four evaluations a step.
* `dpmpp`: DPM-Solver++(2M), Lu et al. 2022, in the flow's log signal-to-noise ratio.
* `pingpong`: to the latents, and back to noise of the next level; for models that were post-trained to take few steps
  (Novack 2025). Draws noise at every step but the last.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from luthier_model.objectives import TimestepShift
from luthier_model.sampling import Evaluation, Noise, Sampler, Sampling

FIRST_LOG_SNR: Final = -6.0  # of the levels behind noise alone; this and the next are the library's
LAST_LOG_SNR: Final = 2.0
_NO_ZERO: Final = 1e-6  # the library's guard in the logarithm


def levels(steps: int, start: float = 1.0) -> list[float]:
    """`start`, then levels evenly spaced in log signal-to-noise ratio, then 0.0: steps + 1 floats.

    `start` is 1 (noise alone), or the level of the noise that is added to audio. ValueError unless steps >= 1 and
    0 < start <= 1.
    """
    if steps < 1 or not 0 < start <= 1:
        raise ValueError(f"need steps >= 1 and 0 < start <= 1, got {steps}, {start}")
    first = math.log((1 - start) / start + _NO_ZERO) if start < 1 else FIRST_LOG_SNR
    inside = [first + (LAST_LOG_SNR - first) * step / steps for step in range(1, steps)]
    return [start, *(1 / (1 + math.exp(log_snr)) for log_snr in inside), 0.0]


def even_levels(steps: int, start: float, shift: TimestepShift | None, latents: int) -> list[float]:
    """`start` to 0.0, evenly spaced, then moved as the model's training moved them: what the library has `rk4` take."""
    even = torch.linspace(start, 0, steps + 1, dtype=torch.float64)
    return [float(level) for level in (shift(even, latents) if shift else even)]


def euler(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """First order, one evaluation a step. `noise` is not drawn from."""
    del noise
    for step, (t, following) in enumerate(pairwise(levels)):
        velocity = yield Evaluation(x, t, step)
        x = x + velocity * (following - t)
    return x


def rk4(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """Fourth order, four evaluations a step. `noise` is not drawn from."""
    del noise
    for step, (t, following) in enumerate(pairwise(levels)):
        dt = following - t
        k1 = yield Evaluation(x, t, step)
        k2 = yield Evaluation(x + k1 * (dt / 2), t + dt / 2, step)
        k3 = yield Evaluation(x + k2 * (dt / 2), t + dt / 2, step)
        k4 = yield Evaluation(x + k3 * dt, following, step)
        x = x + (k1 + (k2 + k3) * 2 + k4) * (dt / 6)
    return x


def dpmpp(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """DPM-Solver++(2M): extrapolates from the last two evaluations. `noise` is not drawn from."""
    del noise
    before: Tensor | None = None
    for step, (t, following) in enumerate(pairwise(levels)):
        velocity = yield Evaluation(x, t, step)
        denoised = x - velocity * t
        if following == 0:
            x = denoised
        else:
            h, target = _log_snr(following) - _log_snr(t), denoised  # h is infinite in a step from noise alone
            if before is not None:
                ratio = h / (_log_snr(t) - _log_snr(levels[step - 1]))  # this step's over the last's
                target = denoised + (denoised - before) * (ratio / 2)
            x = x * (following / t) - target * ((1 - following) * math.expm1(-h))
        before = denoised
    return x


def pingpong(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """To the latents and back to noise of the next level, one evaluation a step."""
    for step, (t, following) in enumerate(pairwise(levels)):
        velocity = yield Evaluation(x, t, step)
        x = x - velocity * t
        if following > 0:
            x = x.lerp(noise().to(x), following)
    return x


def _log_snr(t: float) -> float:
    return math.log((1 - t) / t) if t < 1 else -math.inf


FLOW_SAMPLERS: Final[Mapping[str, Sampler]] = {
    "euler": euler,
    "dpmpp": dpmpp,
    "rk4": rk4,
    "pingpong": pingpong,
}
EVENLY: Final = ("rk4",)
"""Samplers that take `even_levels`."""
