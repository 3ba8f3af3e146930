"""Conditions, denoising and decoding against stable-audio-tools' own, on the tiny model with the same noise."""

import math
import threading

import k_diffusion
import numpy as np
import pytest
import torch
from stable_audio_tools.inference.generation import generate_diffusion_cond

from luthier_inference import studio as studio_module
from luthier_inference.catalogue import Profile
from luthier_inference.devices import arithmetic, keep_times_exact, memory_bounded
from luthier_inference.generation import MARGIN_LATENTS, Model, decode, denoise, encode
from luthier_inference.order import Order
from luthier_inference.shelf import Shelf
from luthier_inference.studio import Job, Studio
from luthier_kit.errors import Cancelled, FailedPrecondition, Unavailable
from luthier_kit.testing import temp_store
from luthier_model.loading import load

from .conftest import version_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(parts) -> Model:
    return Model(load(parts.configuration, parts.weights, parts.text), parts.configuration, CPU)


def order(**fields: object) -> Order:
    return Order(**{"prompt": "calm piano in D minor", "seed": 11, "seconds_total": 2.0, "steps": 6, **fields})


def ours(model: Model, wanted: Order) -> torch.Tensor:
    return list(denoise(model, wanted))[-1].latents


def theirs(model: Model, wanted: Order, **more: object) -> torch.Tensor:
    def conditions(prompt: str) -> list[dict[str, object]]:
        return [{"prompt": prompt, "seconds_start": wanted.seconds_start, "seconds_total": wanted.seconds_total}]

    with torch.inference_mode():
        return generate_diffusion_cond(
            model.network,
            steps=wanted.steps,
            cfg_scale=wanted.guidance_scale,
            scale_phi=wanted.guidance_rescale,
            conditioning=conditions(wanted.prompt),
            negative_conditioning=conditions(wanted.negative_prompt) if wanted.negative_prompt else None,
            sample_size=model.configuration.window_samples,
            seed=wanted.seed,
            device="cpu",
            sampler_type=wanted.sampler,
            sigma_min=wanted.sigma_min,
            sigma_max=wanted.sigma_max,
            return_latents=True,
            **more,
        )


@pytest.fixture
def plain_noise(monkeypatch):
    """k-diffusion's stochastic samplers draw from a Brownian tree; here they draw as ours do."""
    monkeypatch.setattr(k_diffusion.sampling, "BrownianTreeNoiseSampler", lambda x, *_: lambda *__: torch.randn_like(x))


@pytest.mark.parametrize(
    "wanted",
    [
        order(sampler="dpmpp-2m"),
        order(sampler="k-heun"),
        order(sampler="dpmpp-2m-sde"),
        order(sampler="dpmpp-3m-sde"),
        order(sampler="dpmpp-2m", guidance_scale=1.0),
        order(sampler="dpmpp-2m", guidance_rescale=0.7),
        order(sampler="dpmpp-2m", negative_prompt="loud drums", guidance_scale=4.0),
        order(sampler="dpmpp-2m", seconds_start=5.0, seconds_total=3.3, sigma_min=0.01, sigma_max=100.0),
    ],
    ids=lambda o: f"{o.sampler}-{o.guidance_scale:g}-{o.guidance_rescale:g}-{o.negative_prompt or 'plain'}",
)
@pytest.mark.usefixtures("plain_noise")
def test_latents_are_those_of_stable_audio_tools(model, wanted):
    expected = theirs(model, wanted)

    torch.testing.assert_close(ours(model, wanted), expected, rtol=2e-4, atol=2e-4 * float(expected.std()))


@pytest.mark.usefixtures("plain_noise")
def test_variations_are_those_of_stable_audio_tools_but_for_the_encoders_own_noise(model, monkeypatch):
    wanted = order(sampler="dpmpp-2m", init_noise_level=2.0)
    audio = 0.3 * torch.randn(1, 2, model.configuration.window_samples, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model.network.pretransform, "encode", lambda sound: encode(model, sound))

    expected = theirs(model, wanted, init_audio=(16000, audio[0]), init_noise_level=2.0)

    got = list(denoise(model, wanted, audio))[-1].latents
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * float(expected.std()))


def test_encoding_gives_the_mean_of_the_librarys_encoder(model, monkeypatch):
    audio = 0.3 * torch.randn(1, 2, model.configuration.window_samples, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # what it would add to the mean

    with torch.inference_mode():
        torch.testing.assert_close(encode(model, audio), model.network.pretransform.encode(audio))


def test_the_noise_is_untouched_by_other_draws(model):
    wanted = order(sampler="dpmpp-3m-sde")
    first = ours(model, wanted)
    steps = denoise(model, wanted)
    for _ in steps:
        torch.randn(17)  # a neighbour's draws from the global generator

    assert torch.equal(first, ours(model, wanted))


def test_without_guidance_the_transformer_is_asked_for_one_branch(model, monkeypatch):
    sizes = []
    forward = model.network.model.forward

    def watched(x, *args, **kwargs):
        sizes.append(x.shape[0])
        return forward(x, *args, **kwargs)

    monkeypatch.setattr(model.network.model, "forward", watched)
    ours(model, order(guidance_scale=1.0, steps=3, negative_prompt="drums"))
    ours(model, order(guidance_scale=3.0, steps=3))

    assert sizes == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.7])
def test_only_the_latents_asked_for_are_decoded_to_the_same_samples(model, seconds, monkeypatch):
    latents = torch.randn(1, model.configuration.latent_channels, model.configuration.window_latents)
    codec, decoded = model.network.pretransform, []
    with torch.inference_mode():
        whole = codec.decode(latents)[0].T.numpy()
    plain = codec.decode
    monkeypatch.setattr(codec, "decode", lambda z: decoded.append(z.shape[-1]) or plain(z))

    part = decode(model, order(seconds_total=seconds), latents)

    needed = math.ceil(round(seconds * 16000) / 2048)
    assert decoded == [needed + MARGIN_LATENTS]
    assert len(part) == round(seconds * 16000)
    np.testing.assert_allclose(part, whole[: len(part)], atol=1e-6 * np.abs(whole).max())


def test_output_that_is_not_finite_is_refused(model):
    latents = torch.full((1, model.configuration.latent_channels, model.configuration.window_latents), math.nan)

    with pytest.raises(FailedPrecondition, match="not finite"):
        decode(model, order(), latents)


def test_bfloat16_stays_close_to_float32(model):
    """On the CPU's autocast; the setting is for CUDA only."""
    exact = ours(model, order(sampler="dpmpp-2m", guidance_scale=1.0))
    rough = ours(
        Model(model.network, model.configuration, CPU, "bfloat16"), order(sampler="dpmpp-2m", guidance_scale=1.0)
    )

    assert rough.dtype == torch.float32
    assert float((rough - exact).std() / exact.std()) < 0.05


def test_bfloat16_leaves_the_noise_level_exact(parts):
    network = load(parts.configuration, parts.weights, parts.text)
    keep_times_exact(network)
    t = torch.tensor([[0.9987]])

    with arithmetic(CPU, "bfloat16"):
        features = network.model.model.timestep_features(t)

    assert torch.equal(features, network.model.model.timestep_features(t))


@pytest.mark.parametrize("at", [1, 3])
def test_no_step_begins_after_the_stop(model, parts, tmp_path, at, monkeypatch):
    asked = []
    plain = studio_module.denoise

    def watched(*args):
        for step in plain(*args):
            asked.append(step.number)
            yield step

    monkeypatch.setattr(studio_module, "denoise", watched)
    stop = threading.Event()

    def on_step(step, total, sigma, to_go_s):
        if step == at:
            stop.set()

    with temp_store(tmp_path / "store") as store:
        profile = Profile(version_of(store, parts, "tiny"), parts.configuration)
        studio = Studio(store, Shelf(lambda _: model, 1), "float32", tmp_path)
        with pytest.raises(Cancelled):
            studio.make(Job(profile, order(steps=1000)), on_step, stop)

    assert asked == list(range(1, at + 1))
    assert not list(tmp_path.glob("take-*"))


def test_a_device_without_memory_left_is_unavailable():
    with pytest.raises(Unavailable, match="memory"), memory_bounded():
        raise torch.OutOfMemoryError
