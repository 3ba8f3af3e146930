"""Noise levels and samplers against k-diffusion's own, and against the distribution whose denoiser is known exactly."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import k_diffusion
import numpy as np
import pytest
import torch
from stable_audio_tools.inference.sampling import sample

from luthier_model import ddim
from luthier_model.sampling import (
    ADAPTIVE,
    FAST,
    SAMPLERS,
    Evaluation,
    Sampling,
    SeededNoise,
    dpmpp_2m_sde,
    dpmpp_3m_sde,
    generator_of,
    levels_of,
    noise_levels,
    steps_of,
)

Solver = Callable[..., Sampling]

MEAN, SPREAD = 0.7, 1.3
NO_NOISE = torch.zeros(1).double


def gaussian(x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """The exact denoiser of data distributed N(MEAN, SPREAD^2)."""
    if isinstance(sigma, torch.Tensor):
        sigma = float(sigma.flatten()[0])
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def wavy(x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """Something nonlinear, to tell solvers apart."""
    return torch.tanh(gaussian(x, sigma)) + 0.1 * torch.sin(3 * x / (1 + abs(x)))


class Recorded:
    """The same noise for both sides of a comparison."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(5)

    def __call__(self, *_: object) -> torch.Tensor:
        return torch.randn(2, 4, 8, generator=self.generator, dtype=torch.float64)


def last(steps: Iterable[torch.Tensor]) -> torch.Tensor:
    return list(steps)[-1]


THEIRS = {
    "dpmpp-3m-sde": k_diffusion.sampling.sample_dpmpp_3m_sde,
    "dpmpp-2m-sde": k_diffusion.sampling.sample_dpmpp_2m_sde,
    "dpmpp-2m": k_diffusion.sampling.sample_dpmpp_2m,
    "k-heun": k_diffusion.sampling.sample_heun,
    "k-euler": k_diffusion.sampling.sample_euler,
    "k-lms": k_diffusion.sampling.sample_lms,
    "k-dpm-2": k_diffusion.sampling.sample_dpm_2,
    "k-dpmpp-2s-ancestral": k_diffusion.sampling.sample_dpmpp_2s_ancestral,
}


@pytest.mark.parametrize("steps", [1, 2, 25, 100])
def test_levels_are_those_of_k_diffusion(steps: int) -> None:
    ours = torch.tensor(noise_levels(steps, 0.3, 500))
    theirs = k_diffusion.sampling.get_sigmas_exponential(steps, 0.3, 500)

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "wrong", [(0, 0.3, 500), (10, 0, 500), (10, 500, 0.3), (10, 0.3, float("inf")), (1, float("nan"), 1)]
)
def test_levels_that_make_no_sense_are_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="sigma_min"):
        noise_levels(*wrong)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("steps", [2, 3, 12])  # k-diffusion's stochastic ones cannot do a single step
def test_a_sampler_agrees_with_k_diffusion_given_the_same_noise(name: str, steps: int) -> None:
    sigmas = noise_levels(steps, 0.3, 500)
    x = Recorded()() * sigmas[0]
    extra = {"noise_sampler": Recorded()} if name.endswith(("sde", "ancestral")) else {}

    theirs = THEIRS[name](wavy, x, torch.tensor(sigmas, dtype=torch.float64), disable=True, **extra)
    ours = last(steps_of(SAMPLERS[name](x, sigmas, Recorded()), wavy))

    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.fixture
def in_float64() -> Iterable[None]:
    """What k-diffusion and stable-audio-tools make of Python floats."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 12])
@pytest.mark.usefixtures("in_float64")
def test_dpm_fast_agrees_with_k_diffusion_however_many_evaluations(steps: int) -> None:
    x, asked = Recorded()() * 500, list[float]()

    def watched(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append(float(sigma[0]))
        return wavy(x, sigma)

    theirs = k_diffusion.sampling.sample_dpm_fast(watched, x, 0.3, 500.0, steps, disable=True)
    levels = levels_of(FAST, steps, 0.3, 500.0)
    ours = list(steps_of(SAMPLERS[FAST](x, levels, Recorded()), wavy))

    torch.testing.assert_close(ours[-1], theirs, rtol=1e-9, atol=1e-9)
    assert levels == pytest.approx([*asked, 0.3])
    assert len(ours) == steps


def adaptive(x: torch.Tensor, most: int, model: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, list[Evaluation]]:
    """The latents of k-dpm-adaptive, and what it asked for."""
    sampling, asked = SAMPLERS[ADAPTIVE](x, levels_of(ADAPTIVE, most, 0.3, 500.0), NO_NOISE), []
    try:
        asked.append(next(sampling))
        while True:
            asked.append(sampling.send(model(asked[-1].x, asked[-1].level)))
    except StopIteration as done:
        return done.value, asked


def jumpy(x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """Changes so fast at one noise level that steps there are too large at first."""
    sigma = float(sigma.flatten()[0]) if isinstance(sigma, torch.Tensor) else sigma
    return gaussian(x, sigma) + math.tanh(20 * math.log(sigma / 5))


@pytest.mark.parametrize("model", [wavy, jumpy])
@pytest.mark.usefixtures("in_float64")
def test_dpm_adaptive_agrees_with_k_diffusion_step_by_step(model: Callable[..., torch.Tensor]) -> None:
    x = Recorded()() * 500

    theirs, info = k_diffusion.sampling.sample_dpm_adaptive(
        model, x, 0.3, 500.0, disable=True, rtol=0.01, atol=0.01, return_info=True
    )
    ours, asked = adaptive(x, 1000, model)

    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert asked[-1].step + 1 == info["n_accept"]
    assert len(asked) == info["nfe"] - info["n_reject"]  # what is known of a point is not asked again
    assert info["n_reject"] > 0  # that, too, is compared


@pytest.mark.parametrize("most", [1, 2, 7, 12])
def test_dpm_adaptive_arrives_within_its_bound(most: int) -> None:
    x = Recorded()() * 500

    _, asked = adaptive(x, most, jumpy)

    assert len(asked) <= 3 * most
    assert all(later.step >= each.step for each, later in pairwise(asked))
    assert 0.3 < asked[-1].level < 500


def test_a_bound_of_dpm_adaptive_leaves_even_steps() -> None:
    """Its first step is k-diffusion's, 0.05 in log sigma; of three tries two are left for the rest."""
    _, asked = adaptive(Recorded()() * 500, 3, gaussian)

    first = 500 * math.exp(-0.05)
    assert [each.level for each in asked[::3]] == pytest.approx([500, first, math.sqrt(first * 0.3)])


@pytest.mark.parametrize("steps", [1, 2, 12])
@pytest.mark.parametrize("start", [1.0, 0.4])
@pytest.mark.parametrize("name", ddim.DDIM_SAMPLERS)
@pytest.mark.usefixtures("in_float64")
def test_ddim_agrees_with_the_library(name: str, start: float, steps: int) -> None:
    def told_both(x: torch.Tensor, t: torch.Tensor, *, return_info: bool = False) -> object:
        return (wavy(x, t), {"uncond_output": gaussian(x, t)}) if return_info else wavy(x, t)

    def answer(x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.cat([wavy(x, t), gaussian(x, t)]) if name == "v-ddim-cfgpp" else wavy(x, t)

    x = Recorded()()
    theirs = sample(told_both, x, steps, 0.0, sigma_max=start, cfg_pp=name == "v-ddim-cfgpp")

    ours = list(steps_of(ddim.DDIM_SAMPLERS[name](x, ddim.levels(steps, start), Recorded()), answer))

    torch.testing.assert_close(ours[-1], theirs, rtol=1e-9, atol=1e-9)
    assert len(ours) == steps


@pytest.mark.parametrize("wrong", [(0, 1.0), (3, 0.0), (3, 1.5), (3, math.nan)])
def test_timesteps_that_make_no_sense_are_refused(wrong: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="steps >= 1"):
        ddim.levels(*wrong)


@pytest.mark.parametrize("name", THEIRS)
def test_a_single_step_is_what_the_denoiser_says(name: str) -> None:
    x = Recorded()() * 500

    (only,) = steps_of(SAMPLERS[name](x, [500.0, 0.0], Recorded()), wavy)

    torch.testing.assert_close(only, wavy(x, 500.0))


@pytest.mark.parametrize(("name", "sampler"), [("dpmpp-2m-sde", dpmpp_2m_sde), ("dpmpp-3m-sde", dpmpp_3m_sde)])
def test_eta_zero_takes_the_noise_out(name: str, sampler: Solver) -> None:
    sigmas = noise_levels(10, 0.3, 80)
    x = Recorded()() * sigmas[0]
    theirs = THEIRS[name](
        wavy, x, torch.tensor(sigmas, dtype=torch.float64), disable=True, eta=0.0, noise_sampler=Recorded()
    )

    ours = last(steps_of(sampler(x, sigmas, Recorded(), eta=0.0), wavy))

    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def ode_error(sampler: Solver, steps: int, **eta: float) -> float:
    """Distance from the exact solution of the probability flow at sigma_min, for Gaussian data."""
    sigmas = noise_levels(steps, 0.05, 20)[:-1]
    if sampler is SAMPLERS[FAST]:
        sigmas = levels_of(FAST, steps, 0.05, 20)
    x = torch.full((1, 1, 1), 17.0, dtype=torch.float64)
    got = last(steps_of(sampler(x, sigmas, NO_NOISE, **eta), gaussian))
    shrink = math.sqrt((SPREAD**2 + sigmas[-1] ** 2) / (SPREAD**2 + sigmas[0] ** 2))
    return abs(float(got) - (MEAN + (17.0 - MEAN) * shrink))


@pytest.mark.parametrize(
    ("sampler", "order", "eta"),
    [
        (SAMPLERS["k-euler"], 1, {}),
        (SAMPLERS["k-heun"], 2, {}),
        (SAMPLERS["k-lms"], 2, {}),  # of order 4, but its first step is of order 1
        (SAMPLERS["k-dpm-2"], 2, {}),
        (SAMPLERS[FAST], 2, {}),  # its last steps are of order 2 and 1, each but one
        (SAMPLERS["dpmpp-2m"], 2, {}),
        (dpmpp_2m_sde, 2, {"eta": 0.0}),
        (dpmpp_3m_sde, 2, {"eta": 0.0}),
    ],
    ids=["k-euler", "k-heun", "k-lms", "k-dpm-2", FAST, "dpmpp-2m", "dpmpp-2m-sde", "dpmpp-3m-sde"],
)
def test_a_solver_converges_with_its_order(sampler: Solver, order: int, eta: dict[str, float]) -> None:
    coarse, fine = ode_error(sampler, 201, **eta), ode_error(sampler, 401, **eta)

    assert math.log2(coarse / fine) > order - 0.25


def test_the_third_evaluation_makes_the_error_smaller() -> None:
    assert ode_error(dpmpp_3m_sde, 201, eta=0.0) < ode_error(dpmpp_2m_sde, 201, eta=0.0)


@pytest.mark.parametrize("name", ["dpmpp-2m-sde", "dpmpp-3m-sde", "k-dpmpp-2s-ancestral"])
def test_a_stochastic_sampler_draws_from_the_distribution(name: str) -> None:
    sigmas = noise_levels(60, 0.01, 100)
    noise = SeededNoise(1, (1, 1, 40000), torch.device("cpu"))

    drawn = last(steps_of(SAMPLERS[name](noise() * sigmas[0], sigmas, noise), gaussian))

    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.03)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != ADAPTIVE])
def test_latents_come_after_every_step(name: str) -> None:
    asked = []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append(sigma)
        return gaussian(x, sigma)

    sampling = SAMPLERS[name](torch.ones(1, 2, 3), levels_of(name, 7, 0.3, 500), lambda: torch.ones(1, 2, 3))
    running = steps_of(sampling, denoise)
    next(running)
    asked_in_one_step = len(asked)

    assert asked_in_one_step <= 2
    assert len(list(running)) == 6


def test_noise_depends_on_the_seed_alone() -> None:
    one, same, other = (SeededNoise(seed, (1, 4, 16), torch.device("cpu")) for seed in (3, 3, 4))
    torch.randn(100)  # somebody else's draws from the global generator

    assert torch.equal(one(), same())
    assert torch.equal(one(), same())
    assert not torch.equal(one(), other())


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31, 2**32 - 1])
def test_a_seed_of_32_bits_is_torchs_own_noise(seed: int) -> None:
    own = torch.randn((2, 32), generator=torch.Generator().manual_seed(seed))

    assert torch.equal(SeededNoise(seed, (2, 32), torch.device("cpu"))(), own)


def test_every_bit_of_a_seed_makes_other_noise() -> None:
    """torch itself keeps the lowest 32."""
    seeds = [1, *(1 + 2**bit for bit in range(1, 64)), 2**64 - 1]
    draws = {tuple(SeededNoise(seed, (8,), torch.device("cpu"))().tolist()) for seed in seeds}

    assert len(draws) == len(seeds)


@pytest.mark.parametrize("seed", [2**32 + 1, 2**64 - 1])
def test_a_seed_beyond_32_bits_is_the_generator_that_numpy_makes_of_it(seed: int) -> None:
    """Both are MT19937 (Matsumoto and Nishimura 1998); torch draws 64 bits at a time and returns the lower 32."""
    mersenne = np.random.MT19937()
    key = np.random.SeedSequence(seed).generate_state(624).astype(np.uint32)
    mersenne.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624}}

    drawn = torch.empty(1000, dtype=torch.int64).random_(0, 2**32, generator=generator_of(seed))

    assert drawn.tolist() == mersenne.random_raw(2000)[1::2].tolist()


def test_noise_of_a_seed_beyond_32_bits_is_standard_normal_and_its_own() -> None:
    one, other = (SeededNoise(seed, (400_000,), torch.device("cpu"))() for seed in (2**40 + 7, 2**41 + 7))

    assert float(one.mean()) == pytest.approx(0, abs=0.01)
    assert float(one.std()) == pytest.approx(1, abs=0.01)
    assert float((one * other).mean()) == pytest.approx(0, abs=0.01)
