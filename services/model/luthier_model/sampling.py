"""From noise to latents: noise levels, guided denoising, samplers.

Noise levels: `sigma` is the standard deviation of the noise in units of the (unit variance) latents, as in Karras et
al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models".

Denoising: a transformer predicts v (Salimans and Ho 2022), framed as k-diffusion's `VDenoiser`; models of a flow are
sampled by `flow.py`. Guidance: Ho and Salimans 2022. Rescale: Lin et al. 2023, "Common Diffusion Noise Schedules and
Sample Steps are Flawed", section 3.4.

Samplers: each is a generator that yields the latents after every step, so that the caller reports progress and stops
between steps. Coefficients are Python floats computed on the host, so no step waits for the device. The names are
stable-audio-tools' `sampler_type`; the solvers are those of k-diffusion:
* `k-euler`, `k-heun`: Karras et al. 2022, algorithm 2 without churn. Heun evaluates the denoiser twice a step.
* `dpmpp-2m`: DPM-Solver++(2M), Lu et al. 2022. Deterministic, second order.
* `dpmpp-2m-sde` (midpoint), `dpmpp-3m-sde`: its stochastic multistep forms. Stable Audio Open uses the last.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

_MT19937_WORDS: Final = 624  # of 32 bits, Matsumoto and Nishimura 1998; torch keeps each in 64
_MT19937_FIRST: Final = 3  # in a generator's state, behind the seed, the position and the words left
GUIDED_KEYS: Final = ("cross_attn_cond", "prepend_cond")  # what the unconditional branch goes without

Conditioning = Mapping[str, Tensor | None]  # keyword arguments of the transformer, batch 1
Denoiser = Callable[[Tensor, float], Tensor]  # (noisy latents, sigma) -> expected clean latents, same shape
Noise = Callable[[], Tensor]  # the next standard normal draw, shape and device of the latents


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


class GuidedDenoiser:
    """Callable `(x, sigma) -> denoised` over stable-audio-tools' transformer or U-Net; x is (1, channels, latents).

    `scale` 1 evaluates the conditional branch alone; otherwise both branches go as one batch and the velocity is
    unconditional + scale * (conditional - unconditional). `rescale` (0 to 1) pulls its spread in each frame back to
    that of the conditional branch. `negative` is the unconditional branch's text; without it, and where it has no
    token, `unconditional` says what stands there: zeros, or what the network learned.

    The transformer's own `cfg_scale` gives the same numbers but waits for the device each step: it stays 1.
    """

    def __init__(
        self,
        transformer: Callable[..., Tensor],
        conditioning: Conditioning,
        *,
        negative: Conditioning | None = None,
        scale: float = 1.0,
        rescale: float = 0.0,
        unconditional: Callable[[Tensor], Tensor] = torch.zeros_like,
    ) -> None:
        self._transformer, self._scale, self._rescale = transformer, scale, rescale
        self._inputs = {key: value for key, value in conditioning.items() if value is not None}
        if scale != 1.0:
            self._inputs = _both_branches(self._inputs, negative or {}, unconditional)  # batch 1 -> 2

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        norm = math.sqrt(sigma * sigma + 1)
        return x / (norm * norm) - self.velocity(x / norm, math.atan(sigma) * 2 / math.pi) * (sigma / norm)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """What the network answers, guided; `t` in [0, 1]: 0 is clean, 1 is noise alone."""
        if self._scale == 1.0:
            return self._predict(x, t)
        conditional, unconditional = self._predict(torch.cat([x, x]), t).chunk(2)
        guided = unconditional + (conditional - unconditional) * self._scale
        if not self._rescale:
            return guided
        spread = conditional.std(dim=1, keepdim=True) / guided.std(dim=1, keepdim=True)  # (1, 1, latents)
        return guided * (spread * self._rescale + (1 - self._rescale))

    def _predict(self, x: Tensor, t: float) -> Tensor:
        times = torch.full((x.shape[0],), t, device=x.device, dtype=torch.float32)
        return self._transformer(x, times, **self._inputs).to(x.dtype)


def _both_branches(
    conditional: dict[str, Tensor], negative: Conditioning, unconditional: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Each input twice along the batch: as asked for, then without what guidance steers by."""
    both = {}
    for key, value in conditional.items():
        both[key] = torch.cat([value, unconditional(value) if key in GUIDED_KEYS else value])
    text, mask = negative.get("negative_cross_attn_cond"), negative.get("negative_cross_attn_mask")
    if text is not None and "cross_attn_cond" in conditional:
        text = text if mask is None else torch.where(mask.bool()[..., None], text, unconditional(text))
        both["cross_attn_cond"] = torch.cat([conditional["cross_attn_cond"], text])  # (2, tokens, width)
    return both


class Sampler(Protocol):
    """Denoises `x` (batch, channels, latents) along `sigmas`; yields it len(sigmas) - 1 times."""

    def __call__(self, denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Tensor]: ...


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


def euler(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Tensor]:
    """First order, one evaluation a step. `noise` is not drawn from."""
    del noise
    for sigma, following in pairwise(sigmas):
        x = denoise(x, sigma).lerp(x, following / sigma)
        yield x


def heun(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Tensor]:
    """Second order, two evaluations a step (one in the last). `noise` is not drawn from."""
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
    """DPM-Solver++(2M): extrapolates from the last two evaluations. `noise` is not drawn from."""
    del noise
    before: Tensor | None = None
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            target = denoised
            if before is not None:
                # this step's log SNR over the last's
                ratio = math.log(sigma / following) / math.log(sigmas[i - 1] / sigma)
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
    """DPM-Solver++(3M) SDE: extrapolates from the last three evaluations. `eta` as in `dpmpp_2m_sde`.

    As in k-diffusion and DPM-Solver++'s own code the third term has half its Taylor weight, so the order of
    convergence is 2, with a smaller error than 2M. Kept: published models are tuned with it.
    """
    evaluations: list[Tensor] = []  # newest first, at most three
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        evaluations = [denoise(x, sigma), *evaluations[:2]]
        if following == 0:
            x = evaluations[0]
        else:
            h = math.log(sigma / following)
            x = x * math.exp(-h * (1 + eta)) + evaluations[0] * -math.expm1(-h * (1 + eta))
            x = x + _higher_orders(evaluations, sigmas[max(i - 2, 0) : i + 2], h * (1 + eta))
            x = _renoised(x, following, h, eta, noise)
        yield x


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
