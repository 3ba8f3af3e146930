"""From noise to latents: noise levels, guided denoising, samplers.

Noise levels: `sigma` is the standard deviation of the noise in units of the (unit variance) latents, as in Karras et
al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models".

Denoising: a network predicts v (Salimans and Ho 2022), framed as k-diffusion's `VDenoiser`; models of a flow are
sampled by `flow.py`.

Samplers: each is a generator that yields what it wants evaluated and is sent the answer, so that whoever drives it can
evaluate several at once, report progress and stop in between. It returns the latents. Coefficients are Python floats
computed on the host, so no step waits for the device. The names are stable-audio-tools' `sampler_type`; the solvers are
those of k-diffusion:
* `k-euler`, `k-heun`: Karras et al. 2022, algorithm 2 without churn. Heun evaluates the denoiser twice a step.
* `dpmpp-2m`: DPM-Solver++(2M), Lu et al. 2022. Deterministic, second order.
* `dpmpp-2m-sde` (midpoint), `dpmpp-3m-sde`: its stochastic multistep forms. Stable Audio Open uses the last.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

_MT19937_WORDS: Final = 624  # of 32 bits, Matsumoto and Nishimura 1998; torch keeps each in 64
_MT19937_FIRST: Final = 3  # in a generator's state, behind the seed, the position and the words left

Noise = Callable[[], Tensor]  # the next standard normal draw, shape and device of the latents


@dataclass(frozen=True)
class Evaluation:
    """What a sampler wants evaluated: `x` (batch, channels, latents) at a noise level, with `step` steps done.

    The answer is the expected clean latents; of a flow, whose level is the share of noise, the velocity.
    """

    x: Tensor
    level: float
    step: int


Sampling = Generator[Evaluation, Tensor, Tensor]
"""A sampler at work: yields evaluations, is sent their answers, returns the latents."""


def noise_levels(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`steps` levels from `sigma_max` to `sigma_min`, evenly spaced in log sigma, then 0.0: steps + 1 floats.

    stable-audio-tools' default, k-diffusion's exponential schedule. A single step goes from `sigma_max` to zero.
    ValueError unless 0 < sigma_min < sigma_max and steps >= 1.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"need steps >= 1 and 0 < sigma_min < sigma_max, got {steps}, {sigma_min}, {sigma_max}")
    low, high = math.log(sigma_min), math.log(sigma_max)
    ramp = [1.0 - step / max(steps - 1, 1) for step in range(steps)]
    return [math.exp(low + at * (high - low)) for at in ramp] + [0.0]


class Sampler(Protocol):
    """Begins to denoise `x` (batch, channels, latents) along `levels`, in len(levels) - 1 steps."""

    def __call__(self, x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling: ...


def steps_of(sampling: Sampling, evaluate: Callable[[Tensor, float], Tensor]) -> Iterator[Tensor]:
    """Drives a sampler by a function of latents and level; yields the latents after every step."""
    step, asked = 0, next(sampling)
    while True:
        try:
            asked = sampling.send(evaluate(asked.x, asked.level))
        except StopIteration as done:
            yield done.value
            return
        if asked.step > step:
            step = asked.step
            yield asked.x


class SeededNoise:
    """Standard normal draws of one request: the same from the same seed on every device and in every batch.

    Drawn by a generator on the CPU, in float32; copied to `device` without waiting for what is queued there.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device) -> None:
        self._generator = generator_of(seed)
        self._shape, self._device = shape, device

    def __call__(self) -> Tensor:
        pinned = self._device.type == "cuda"
        draw = torch.randn(self._shape, generator=self._generator, pin_memory=pinned)
        return draw.to(self._device, non_blocking=True)


def generator_of(seed: int) -> torch.Generator:
    """torch's generator on the CPU, by a seed of 64 bits.

    torch keeps the lowest 32 bits of a seed: 1 and 2^32 + 1 would be the same noise. Seeds beyond 32 bits set the whole
    state, by NumPy's SeedSequence; below, all is as torch does it.
    """
    generator = torch.Generator().manual_seed(seed)
    if seed >> 32:
        state = generator.get_state()
        words = np.random.SeedSequence(seed).generate_state(_MT19937_WORDS)
        state.view(torch.int64)[_MT19937_FIRST : _MT19937_FIRST + _MT19937_WORDS] = torch.from_numpy(
            words.astype(np.int64)
        )
        generator.set_state(state)
    return generator


def euler(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """First order, one evaluation a step. `noise` is not drawn from."""
    del noise
    for step, (sigma, following) in enumerate(pairwise(levels)):
        denoised = yield Evaluation(x, sigma, step)
        x = denoised.lerp(x, following / sigma)
    return x


def heun(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """Second order, two evaluations a step (one in the last). `noise` is not drawn from."""
    del noise
    for step, (sigma, following) in enumerate(pairwise(levels)):
        denoised = yield Evaluation(x, sigma, step)
        slope = (x - denoised) / sigma
        ahead = x + slope * (following - sigma)
        if following > 0:
            denoised = yield Evaluation(ahead, following, step)
            slope = (slope + (ahead - denoised) / following) / 2
            ahead = x + slope * (following - sigma)
        x = ahead
    return x


def dpmpp_2m(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """DPM-Solver++(2M): extrapolates from the last two evaluations. `noise` is not drawn from."""
    del noise
    before: Tensor | None = None
    for step, (sigma, following) in enumerate(pairwise(levels)):
        denoised = yield Evaluation(x, sigma, step)
        if following == 0:
            x = denoised
        else:
            target = denoised
            if before is not None:
                # this step's log SNR over the last's
                ratio = math.log(sigma / following) / math.log(levels[step - 1] / sigma)
                target = denoised + (denoised - before) * (ratio / 2)
            x = target.lerp(x, following / sigma)
        before = denoised
    return x


def dpmpp_2m_sde(x: Tensor, levels: Sequence[float], noise: Noise, eta: float = 1.0) -> Sampling:
    """DPM-Solver++(2M) SDE, midpoint. `eta` 1 draws noise once a step but the last, 0 never."""
    before: Tensor | None = None
    for step, (sigma, following) in enumerate(pairwise(levels)):
        denoised = yield Evaluation(x, sigma, step)
        if following == 0:
            x = denoised
        else:
            h = math.log(sigma / following)
            gain = -math.expm1(-h * (1 + eta))
            x = x * math.exp(-h * (1 + eta)) + denoised * gain
            if before is not None:
                x = x + (denoised - before) * (0.5 * gain * h / math.log(levels[step - 1] / sigma))
            x = _renoised(x, following, h, eta, noise)
        before = denoised
    return x


def dpmpp_3m_sde(x: Tensor, levels: Sequence[float], noise: Noise, eta: float = 1.0) -> Sampling:
    """DPM-Solver++(3M) SDE: extrapolates from the last three evaluations. `eta` as in `dpmpp_2m_sde`.

    As in k-diffusion and DPM-Solver++'s own code the third term has half its Taylor weight, so the order of
    convergence is 2, with a smaller error than 2M. Kept: published models are tuned with it.
    """
    evaluations: list[Tensor] = []  # newest first, at most three
    for step, (sigma, following) in enumerate(pairwise(levels)):
        denoised = yield Evaluation(x, sigma, step)
        evaluations = [denoised, *evaluations[:2]]
        if following == 0:
            x = denoised
        else:
            h = math.log(sigma / following)
            x = x * math.exp(-h * (1 + eta)) + denoised * -math.expm1(-h * (1 + eta))
            x = x + _higher_orders(evaluations, levels[max(step - 2, 0) : step + 2], h * (1 + eta))
            x = _renoised(x, following, h, eta, noise)
    return x


def _higher_orders(evaluations: list[Tensor], sigmas: Sequence[float], h_eta: float) -> Tensor | float:
    """What the second and third order terms add. `sigmas` ends with this step's two levels."""
    *past, h = [math.log(a / b) for a, b in pairwise(sigmas)]
    if not past:
        return 0.0
    phi_2 = math.expm1(-h_eta) / h_eta + 1
    r0 = past[-1] / h
    first = (evaluations[0] - evaluations[1]) / r0
    if len(past) == 1:
        return first * phi_2
    r1 = past[-2] / h
    change = first - (evaluations[1] - evaluations[2]) / r1
    second = change / (r0 + r1)
    return (first + change * (r0 / (r0 + r1))) * phi_2 - second * (phi_2 / h_eta - 0.5)


def _renoised(x: Tensor, sigma: float, h: float, eta: float, noise: Noise) -> Tensor:
    return x + noise().to(x) * (sigma * math.sqrt(-math.expm1(-2 * h * eta))) if eta else x


SAMPLERS: Final[Mapping[str, Sampler]] = {
    "dpmpp-3m-sde": dpmpp_3m_sde,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "dpmpp-2m": dpmpp_2m,
    "k-heun": heun,
    "k-euler": euler,
}
