"""From noise to latents: noise levels, guided denoising, samplers.

Noise levels: `sigma` is the standard deviation of the noise in units of the (unit variance) latents, as in Karras et
al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models".

Denoising: a network predicts v (Salimans and Ho 2022), framed as k-diffusion's `VDenoiser`; the same network sampled
along its own timesteps is in `ddim.py`, models of a flow in `flow.py`.

Samplers: each is a generator that yields what it wants evaluated and is sent the answer, so that whoever drives it can
evaluate several at once, report progress and stop in between. It returns the latents. Coefficients are Python floats
computed on the host, so no step waits for the device (but of `k-dpm-adaptive`, which measures its error). The names are
stable-audio-tools' `sampler_type`; the solvers are those of k-diffusion:
* `k-euler`, `k-heun`: Karras et al. 2022, algorithm 2 without churn. Heun evaluates the denoiser twice a step.
* `k-lms`: linear multistep (Adams and Bashforth) of order 4 in sigma.
* `k-dpm-2`: a midpoint step in log sigma, two evaluations.
* `k-dpm-fast`, `k-dpm-adaptive`: DPM-Solver, Lu et al. 2022, of order 3, on a grid of its own and with step sizes by
  its error. Both end at `sigma_min` and not at zero, as the library's do: what is left of the noise is heard.
* `dpmpp-2m`: DPM-Solver++(2M), Lu et al. 2022. Deterministic, second order.
* `dpmpp-2m-sde` (midpoint), `dpmpp-3m-sde`: its stochastic multistep forms. Stable Audio Open uses the last.
* `k-dpmpp-2s-ancestral`: DPM-Solver++(2S), two evaluations a step, and noise after each.
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

FAST, ADAPTIVE = "k-dpm-fast", "k-dpm-adaptive"
_LMS_ORDER: Final = 4  # k-diffusion's
_TOLERANCE: Final = 0.01  # of k-dpm-adaptive, absolute and relative, as stable-audio-tools asks for
_FIRST_STEP: Final = 0.05  # of k-dpm-adaptive, in log sigma; this and the next three are k-diffusion's
_ACCEPTED: Final = 0.81  # a step is taken unless its error asks for one shorter than this share
_ARRIVED: Final = 1e-5  # in log sigma
_NO_ERROR: Final = 1e-8

Noise = Callable[[], Tensor]  # the next standard normal draw, shape and device of the latents


@dataclass(frozen=True)
class Evaluation:
    """What a sampler wants evaluated: `x` (batch, channels, latents) at a noise level, with `step` steps done.

    The answer is the expected clean latents; along timesteps (of `ddim.py` and of a flow) it is what the network
    predicts. `both`: behind the guided answer also that of the branch that guidance steers away from, (2 * batch,
    channels, latents); where nothing is guided the same twice.
    """

    x: Tensor
    level: float
    step: int
    both: bool = False


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


def levels_of(sampler: str, steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """The levels that a sampler of SAMPLERS takes: `noise_levels`, but for two that have no last step to zero.

    Of `k-dpm-fast` those of its evaluations, one a step; of `k-dpm-adaptive` as many as it may take at most.
    """
    levels = noise_levels(steps, sigma_min, sigma_max)
    if sampler == FAST:
        ends, orders = _log_even(sigma_max, sigma_min, steps // 3 + 1), _fast_orders(steps)
        inside = [
            begin * math.exp(share / order * math.log(end / begin))
            for (begin, end), order in zip(pairwise(ends), orders, strict=True)
            for share in range(order)
        ]
        return [*inside, sigma_min]
    return _log_even(sigma_max, sigma_min, steps) if sampler == ADAPTIVE else levels


def _log_even(first: float, last: float, steps: int) -> list[float]:
    return [first * math.exp(step / steps * math.log(last / first)) for step in range(steps)] + [last]


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


def lms(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """Linear multistep: the last four slopes, one evaluation a step. `noise` is not drawn from."""
    del noise
    slopes: list[Tensor] = []  # newest first
    for step, (sigma, following) in enumerate(pairwise(levels)):
        denoised = yield Evaluation(x, sigma, step)
        slopes = [(x - denoised) / sigma, *slopes[: _LMS_ORDER - 1]]
        known = [levels[step - back] for back in range(len(slopes))]
        for back, slope in enumerate(slopes):
            x = x + slope * _lagrange_integral(known, back, following)
    return x


def _lagrange_integral(known: Sequence[float], at: int, end: float) -> float:
    """Integral from known[0] to `end` of the polynomial that is 1 at known[at] and 0 at the others, at most cubic:
    two points of Gauss and Legendre are exact."""
    middle, half = (end + known[0]) / 2, (end - known[0]) / 2
    others = [level for index, level in enumerate(known) if index != at]
    points = (middle - half / math.sqrt(3), middle + half / math.sqrt(3))
    return half * sum(math.prod((point - other) / (known[at] - other) for other in others) for point in points)


def dpm_2(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """Second order: the slope halfway in log sigma. Two evaluations a step, one in the last; draws no noise."""
    del noise
    for step, (sigma, following) in enumerate(pairwise(levels)):
        denoised = yield Evaluation(x, sigma, step)
        slope = (x - denoised) / sigma
        if following > 0:
            middle = math.sqrt(sigma * following)
            between = x + slope * (middle - sigma)
            denoised = yield Evaluation(between, middle, step)
            slope = (between - denoised) / middle
        x = x + slope * (following - sigma)
    return x


def dpmpp_2s_ancestral(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """DPM-Solver++(2S) to below the next level and back to it by noise: two evaluations a step, in the last one."""
    for step, (sigma, following) in enumerate(pairwise(levels)):
        denoised = yield Evaluation(x, sigma, step)
        if following == 0:
            return denoised
        added = min(following, math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
        below = math.sqrt(following**2 - added**2)
        middle = math.sqrt(sigma * below)
        denoised = yield Evaluation(denoised.lerp(x, middle / sigma), middle, step)
        x = denoised.lerp(x, below / sigma) + noise().to(x) * added
    return x


def dpm_fast(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """DPM-Solver of order 3 in even steps of log sigma, the last of order 2 and 1 as the number of evaluations leaves
    them. `levels` are `levels_of` it: a step is an evaluation. `noise` is not drawn from.
    """
    del noise
    step = 0
    for order in _fast_orders(len(levels) - 1):
        sigma, end = levels[step], levels[step + order]
        first = (x - (yield Evaluation(x, sigma, step))) / sigma
        if order == 1:
            x = _first_order(x, sigma, end, first)
        else:
            inside = levels[step + 1]
            ahead = _first_order(x, sigma, inside, first)
            second = (ahead - (yield Evaluation(ahead, inside, step + 1))) / inside
            if order == 2:
                x = _second_order(x, sigma, end, first, second, 1 / 2)
            else:
                inside = levels[step + 2]
                ahead = _ahead(x, sigma, inside, first, second)
                third = (ahead - (yield Evaluation(ahead, inside, step + 2))) / inside
                x = _third_order(x, sigma, end, first, third)
        step += order
    return x


def _fast_orders(evaluations: int) -> list[int]:
    """Of the steps that DPM-Solver-fast makes with so many evaluations (Lu 2022, appendix D.2)."""
    thirds, rest = divmod(evaluations, 3)
    return [3] * thirds + [rest] if rest else [3] * (thirds - 1) + [2, 1]


def dpm_adaptive(x: Tensor, levels: Sequence[float], noise: Noise) -> Sampling:
    """DPM-Solver-23: steps of order 3, their size by their distance from order 2 (Lu 2022, appendix C).

    From the first of `levels` to the last, in at most len(levels) - 1 tries: what the first half of them leaves is gone
    through in steps that are at least even. A step is a try whose error is small enough: three evaluations, two after
    one that was not. `noise` is not drawn from.
    """
    del noise
    to_go, last = math.log(levels[0] / levels[-1]), levels[-1]
    step, size, before = 0, _FIRST_STEP, x
    first: Tensor | None = None
    tries = len(levels) - 1
    for tries_left in range(tries, 0, -1):
        sigma, least = last * math.exp(to_go), to_go / tries_left if 2 * tries_left <= tries + 1 else 0.0
        h = min(to_go, max(size, least))
        middle, later, end = (sigma * math.exp(-h * share) for share in (1 / 3, 2 / 3, 1))
        if first is None:
            first = (x - (yield Evaluation(x, sigma, step))) / sigma
        ahead = _first_order(x, sigma, middle, first)
        second = (ahead - (yield Evaluation(ahead, middle, step))) / middle
        ahead = _ahead(x, sigma, later, first, second)
        third = (ahead - (yield Evaluation(ahead, later, step))) / later
        low, high = _second_order(x, sigma, end, first, second, 1 / 3), _third_order(x, sigma, end, first, third)
        allowed = (_TOLERANCE * torch.maximum(low.abs(), before.abs())).clamp(min=_TOLERANCE)
        error = float((((low - high) / allowed) ** 2).mean().sqrt())
        factor = 1 + math.atan((1 / (error + _NO_ERROR)) ** (1 / 3) - 1)
        size *= factor
        if factor >= _ACCEPTED or h == least:
            before, x, first, to_go, step = low, high, None, to_go - h, step + 1
            if to_go <= _ARRIVED:
                break
    return x


def _first_order(x: Tensor, sigma: float, end: float, first: Tensor) -> Tensor:
    """To `end` by one slope: noise as the network has it, at `sigma`."""
    return x + first * (end - sigma)


def _second_order(x: Tensor, sigma: float, end: float, first: Tensor, second: Tensor, share: float) -> Tensor:
    """The same by the slopes at `sigma` and after a `share` of the step in log sigma."""
    return x + (first + (second - first) / (2 * share)) * (end - sigma)


def _ahead(x: Tensor, sigma: float, inside: float, first: Tensor, second: Tensor) -> Tensor:
    """Two thirds of a step by the slopes at its beginning and after a third."""
    h = math.log(sigma / inside)
    return x + first * (inside - sigma) - (second - first) * (inside * 2 * (math.expm1(h) / h - 1))


def _third_order(x: Tensor, sigma: float, end: float, first: Tensor, third: Tensor) -> Tensor:
    """The whole of it by the slopes at its beginning and after two thirds."""
    h = math.log(sigma / end)
    return x + first * (end - sigma) - (third - first) * (end * 3 / 2 * (math.expm1(h) / h - 1))


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
    "k-lms": lms,
    "k-dpm-2": dpm_2,
    FAST: dpm_fast,
    ADAPTIVE: dpm_adaptive,
    "k-dpmpp-2s-ancestral": dpmpp_2s_ancestral,
}
