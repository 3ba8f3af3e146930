"""Samplers: from noise to latents, one step at a time.

Each sampler is a generator that yields the latents after every step, so that the caller reports progress and
stops between steps. Coefficients are Python floats computed on the host, so no step waits for the device.

The names are stable-audio-tools' `sampler_type`; the solvers are those of k-diffusion:
* `k-euler`, `k-heun`: Karras et al. 2022, algorithm 2 without churn. Heun asks the denoiser twice a step.
* `dpmpp-2m`: DPM-Solver++(2M), Lu et al. 2022. Deterministic, second order.
* `dpmpp-2m-sde` (midpoint), `dpmpp-3m-sde`: its stochastic multistep forms. Stable Audio Open uses the last.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]  # (noisy latents, sigma) -> expected clean latents, same shape
Noise = Callable[[], Tensor]  # the next standard normal draw, shape and device of the latents


class Sampler(Protocol):
    """Denoises `x` (batch, channels, latents) along `sigmas`; yields it len(sigmas) - 1 times."""

    def __call__(self, denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Tensor]: ...


class SeededNoise:
    """Standard normal draws of one request: the same from the same seed on every device and in every batch.

    Drawn by a generator on the CPU, in float32; copied to `device` without waiting for what is queued there.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device):
        self._generator = torch.Generator().manual_seed(seed)
        self._shape, self._device = shape, device

    def __call__(self) -> Tensor:
        pinned = self._device.type == "cuda"
        draw = torch.randn(self._shape, generator=self._generator, pin_memory=pinned)
        return draw.to(self._device, non_blocking=True)


def euler(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Tensor]:
    """First order, one question a step. `noise` is not drawn from."""
    del noise
    for sigma, following in pairwise(sigmas):
        x = denoise(x, sigma).lerp(x, following / sigma)
        yield x


def heun(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Tensor]:
    """Second order, two questions a step (one in the last). `noise` is not drawn from."""
    del noise
    for sigma, following in pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        ahead = x + slope * (following - sigma)
        if following > 0:
            slope = (slope + (ahead - denoise(ahead, following)) / following) / 2
            ahead = x + slope * (following - sigma)
        x = ahead
        yield x


def dpmpp_2m(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver++(2M): extrapolates from the last two answers. `noise` is not drawn from."""
    del noise
    before: Tensor | None = None
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            target = denoised
            if before is not None:
                ratio = math.log(sigma / following) / math.log(
                    sigmas[i - 1] / sigma
                )  # this step's log SNR over the last's
                target = denoised + (denoised - before) * (ratio / 2)
            x = target.lerp(x, following / sigma)
        before = denoised
        yield x


def dpmpp_2m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) SDE, midpoint. `eta` 1 draws noise once a step but the last, 0 never."""
    before: Tensor | None = None
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            h = math.log(sigma / following)
            gain = -math.expm1(-h * (1 + eta))
            x = x * math.exp(-h * (1 + eta)) + denoised * gain
            if before is not None:
                x = x + (denoised - before) * (0.5 * gain * h / math.log(sigmas[i - 1] / sigma))
            x = _renoised(x, following, h, eta, noise)
        before = denoised
        yield x


def dpmpp_3m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0
) -> Iterator[Tensor]:
    """DPM-Solver++(3M) SDE: extrapolates from the last three answers. `eta` as in `dpmpp_2m_sde`.

    As in k-diffusion and DPM-Solver++'s own code the third term has half its Taylor weight, so the order of
    convergence is 2, with a smaller error than 2M. Kept: published models are tuned with it.
    """
    answers: list[Tensor] = []  # newest first, at most three
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        answers = [denoise(x, sigma), *answers[:2]]
        if following == 0:
            x = answers[0]
        else:
            h = math.log(sigma / following)
            x = x * math.exp(-h * (1 + eta)) + answers[0] * -math.expm1(-h * (1 + eta))
            x = x + _curvature(answers, sigmas[max(i - 2, 0) : i + 2], h * (1 + eta))
            x = _renoised(x, following, h, eta, noise)
        yield x


def _curvature(answers: list[Tensor], sigmas: Sequence[float], h_eta: float) -> Tensor | float:
    """What the second and third order terms add. `sigmas` ends with this step's two levels."""
    *past, h = [math.log(a / b) for a, b in pairwise(sigmas)]
    if not past:
        return 0.0
    phi_2 = math.expm1(-h_eta) / h_eta + 1
    r0 = past[-1] / h
    first = (answers[0] - answers[1]) / r0
    if len(past) == 1:
        return first * phi_2
    r1 = past[-2] / h
    change = first - (answers[1] - answers[2]) / r1
    second = change / (r0 + r1)
    return (first + change * (r0 / (r0 + r1))) * phi_2 - second * (phi_2 / h_eta - 0.5)


def _renoised(x: Tensor, sigma: float, h: float, eta: float, noise: Noise) -> Tensor:
    return x + noise().to(x) * (sigma * math.sqrt(-math.expm1(-2 * h * eta))) if eta else x


SAMPLERS: dict[str, Sampler] = {
    "dpmpp-3m-sde": dpmpp_3m_sde,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "dpmpp-2m": dpmpp_2m,
    "k-heun": heun,
    "k-euler": euler,
}
DEFAULT_SAMPLER = "dpmpp-3m-sde"
