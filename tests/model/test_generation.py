"""Conditions, denoising and decoding against stable-audio-tools' own, on the tiny model with the same noise."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import k_diffusion
import numpy as np
import pytest
import torch
from stable_audio_tools.inference.generation import generate_diffusion_cond

from luthier_model.configuration import check
from luthier_model.errors import OutputNotFinite
from luthier_model.generation import (
    MARGIN_LATENTS,
    Denoising,
    GenerationParameters,
    Kept,
    LoadedModel,
    decode,
    denoise,
    encode,
    evaluate,
    for_serving,
    pieces,
    prepare,
    prompt_tokens,
)
from luthier_model.loading import load
from luthier_model.sampling import ADAPTIVE, SAMPLERS

from .small import ModelFiles

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(model_files: ModelFiles) -> LoadedModel:
    network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
    return LoadedModel(network, model_files.configuration, CPU)


def parameters(**fields: Any) -> GenerationParameters:
    return GenerationParameters(
        **{"prompt": "calm piano in D minor", "seed": 11, "seconds_total": 2.0, "steps": 6, **fields}
    )


def ours(model: LoadedModel, wanted: GenerationParameters) -> torch.Tensor:
    return list(denoise(model, wanted))[-1].latents


def theirs(model: LoadedModel, wanted: GenerationParameters, **more: Any) -> torch.Tensor:
    def conditions(prompt: str) -> list[dict[str, object]]:
        return [{"prompt": prompt, "seconds_start": wanted.seconds_start, "seconds_total": wanted.seconds_total}]

    with torch.inference_mode():
        latents: torch.Tensor = generate_diffusion_cond(
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
            cfg_interval=(wanted.guidance_from, wanted.guidance_to),
            return_latents=True,
            **more,
        )
    return latents


@pytest.fixture
def plain_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """k-diffusion's stochastic samplers draw from a Brownian tree; here they draw as ours do."""
    monkeypatch.setattr(k_diffusion.sampling, "BrownianTreeNoiseSampler", lambda x, *_: lambda *__: torch.randn_like(x))


@pytest.mark.parametrize(
    "wanted",
    [
        parameters(sampler="dpmpp-2m"),
        parameters(sampler="k-heun"),
        parameters(sampler="dpmpp-2m-sde"),
        parameters(sampler="dpmpp-3m-sde"),
        parameters(sampler="dpmpp-2m", guidance_scale=1.0),
        parameters(sampler="dpmpp-2m", guidance_rescale=0.7),
        parameters(sampler="dpmpp-2m", negative_prompt="loud drums", guidance_scale=4.0),
        parameters(sampler="dpmpp-2m", seconds_start=5.0, seconds_total=3.3, sigma_min=0.01, sigma_max=100.0),
        parameters(sampler="k-lms"),
        parameters(sampler="k-dpm-2"),
        parameters(sampler="k-dpm-fast", steps=7),
        parameters(sampler="k-dpm-adaptive", steps=60, guidance_scale=1.0),
        parameters(sampler="k-dpmpp-2s-ancestral"),
        parameters(sampler="v-ddim", sigma_max=1.0),
        parameters(sampler="v-ddim-cfgpp", sigma_max=1.0, guidance_scale=0.8),
        parameters(sampler="v-ddim-cfgpp", sigma_max=1.0, guidance_scale=1.0),
        parameters(sampler="v-ddim-cfgpp", sigma_max=1.0, guidance_rescale=0.7, negative_prompt="loud drums"),
        parameters(sampler="k-heun", guidance_from=0.6, guidance_to=0.99),
        parameters(sampler="v-ddim-cfgpp", sigma_max=1.0, guidance_from=0.6, guidance_to=0.9),
    ],
    ids=lambda p: (
        f"{p.sampler}-{p.guidance_scale:g}-{p.guidance_rescale:g}-{p.guidance_from:g}-{p.negative_prompt or 'plain'}"
    ),
)
@pytest.mark.usefixtures("plain_noise")
def test_latents_are_those_of_stable_audio_tools(model: LoadedModel, wanted: GenerationParameters) -> None:
    expected = theirs(model, wanted)

    # an adaptive sampler's first errors are float32's rounding: its steps, and so its latents, are as near as it aims
    within = 1e-2 if wanted.sampler == ADAPTIVE else 2e-4
    torch.testing.assert_close(ours(model, wanted), expected, rtol=within, atol=within * float(expected.std()))


@pytest.mark.parametrize(("sampler", "level"), [("dpmpp-2m", 2.0), ("k-dpm-fast", 2.0), ("v-ddim", 0.6)])
@pytest.mark.usefixtures("plain_noise")
def test_variations_are_those_of_stable_audio_tools_but_for_the_encoders_own_noise(
    model: LoadedModel, sampler: str, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = parameters(sampler=sampler, init_noise_level=level, steps=4)
    audio = 0.3 * torch.randn(1, 2, model.configuration.window_samples, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model.network.pretransform, "encode", lambda sound: encode(model, sound))

    expected = theirs(model, wanted, init_audio=(16000, audio[0]), init_noise_level=level)

    got = list(denoise(model, wanted, audio))[-1].latents
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * float(expected.std()))


def test_encoding_gives_the_mean_of_the_librarys_encoder(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = 0.3 * torch.randn(1, 2, model.configuration.window_samples, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # what it would add to the mean

    with torch.inference_mode():
        torch.testing.assert_close(encode(model, audio), model.network.pretransform.encode(audio))


def test_the_noise_is_untouched_by_other_draws(model: LoadedModel) -> None:
    wanted = parameters(sampler="dpmpp-3m-sde")
    first = ours(model, wanted)
    for _ in denoise(model, wanted):
        torch.randn(17)  # another request's draws from the global generator

    assert torch.equal(first, ours(model, wanted))


def test_without_guidance_the_transformer_is_asked_for_one_branch(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    project_in = model.network.model.model.transformer.project_in
    monkeypatch.setattr(project_in, "forward", _watched(project_in.forward, lambda x: sizes.append(len(x))))

    ours(model, parameters(guidance_scale=1.0, steps=3, negative_prompt="drums"))
    ours(model, parameters(guidance_scale=3.0, steps=3))

    assert sizes == [1, 1, 1, 2, 2, 2]


def test_outside_its_interval_guidance_costs_nothing(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    project_in = model.network.model.model.transformer.project_in
    monkeypatch.setattr(project_in, "forward", _watched(project_in.forward, lambda x: sizes.append(len(x))))

    wanted = parameters(sampler="v-ddim", sigma_max=1.0, steps=4, guidance_from=0.5, guidance_to=0.95)
    ours(model, wanted)  # noise of sin(90°), sin(67.5°), sin(45°), sin(22.5°)

    assert sizes == [1, 2, 2, 1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_progress_reaches_its_end_and_never_more(model: LoadedModel, sampler: str) -> None:
    most = 40 if sampler == "k-dpm-adaptive" else 4
    wanted = parameters(sampler=sampler, steps=most, guidance_scale=1.0)

    steps = list(denoise(model, wanted))

    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.number <= step.total <= most for step in steps)
    assert steps[-1].number == steps[-1].total
    assert (len(steps) == most) == (sampler != "k-dpm-adaptive")
    assert [step.sigma for step in steps] == sorted((step.sigma for step in steps), reverse=True)
    assert steps[-1].sigma == (0.3 if sampler in ("k-dpm-fast", "k-dpm-adaptive") else 0)


def test_what_the_first_release_did_not_know_leaves_the_name_of_audio_as_it_was() -> None:
    plain, changed = parameters(), parameters(guidance_to=0.9, keep=(Kept(0.0, 1.0),))

    assert set(changed.named()) - set(plain.named()) == {"guidance_to", "keep"}
    assert list(plain.named()) == [
        "prompt", "seed", "seconds_total", "seconds_start", "negative_prompt", "steps", "sampler", "sigma_min",
        "sigma_max", "guidance_scale", "guidance_rescale", "init_noise_level", "untrimmed",
    ]  # fmt: skip


def test_a_branch_without_text_skips_cross_attention(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    attention = model.network.model.model.transformer.layers[0].cross_attn
    monkeypatch.setattr(attention.to_q, "forward", _watched(attention.to_q.forward, lambda x: rows.append(len(x))))

    ours(model, parameters(steps=1))
    ours(model, parameters(steps=1, negative_prompt="drums"))

    assert rows == [1, 2]


def _watched(forward: Callable[[torch.Tensor], torch.Tensor], see: Callable[[torch.Tensor], None]) -> Any:
    def watched(x: torch.Tensor) -> torch.Tensor:
        see(x)
        return forward(x)

    return watched


REQUESTS = [
    parameters(sampler="dpmpp-3m-sde", steps=9, seed=1),
    parameters(sampler="k-heun", steps=3, seed=2, guidance_scale=1.0),
    parameters(sampler="k-euler", steps=6, seed=3, prompt="loud drums", guidance_rescale=0.7),
    parameters(sampler="dpmpp-2m", steps=5, seed=4, negative_prompt="loud drums", seconds_total=1.0),
    parameters(sampler="v-ddim-cfgpp", steps=7, seed=5, sigma_max=1.0, guidance_from=0.5),
    parameters(sampler="k-dpm-adaptive", steps=20, seed=6),
]


def test_requests_that_share_steps_are_as_alone(model: LoadedModel) -> None:
    """Whatever their steps, samplers, guidance, seeds and lengths; each joins and leaves at its own time."""
    alone = [ours(model, wanted) for wanted in REQUESTS]

    running: list[Denoising] = []
    waiting = [Denoising(model, wanted) for wanted in REQUESTS]
    everything = list(waiting)
    while waiting or running:
        running += [waiting.pop(0)] if waiting else []
        evaluate(running)
        running = [each for each in running if each.asked]

    for each, expected in zip(everything, alone, strict=True):
        torch.testing.assert_close(each.latents, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_one_that_leaves_changes_nothing_for_the_others(model: LoadedModel) -> None:
    stays, leaves = (Denoising(model, wanted) for wanted in REQUESTS[:2])
    evaluate([stays, leaves])
    while stays.asked:
        evaluate([stays])

    expected = ours(model, REQUESTS[0])
    torch.testing.assert_close(stays.latents, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.7])
def test_only_the_latents_asked_for_are_decoded_to_the_same_samples(
    model: LoadedModel, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.randn(1, model.configuration.latent_channels, model.configuration.window_latents)
    autoencoder, decoded = model.network.pretransform, []
    with torch.inference_mode():
        whole = autoencoder.decode(latents)[0].T.numpy()
    plain = autoencoder.decode

    def watched(z: torch.Tensor) -> Any:
        decoded.append(z.shape[-1])
        return plain(z)

    monkeypatch.setattr(autoencoder, "decode", watched)

    part = decode(model, parameters(seconds_total=seconds), latents)

    needed = math.ceil(round(seconds * 16000) / 2048)
    assert decoded == [needed + MARGIN_LATENTS]
    assert len(part) == round(seconds * 16000)
    np.testing.assert_allclose(part, whole[: len(part)], atol=1e-6 * np.abs(whole).max())


def test_pieces_are_the_whole(model: LoadedModel) -> None:
    latents = torch.randn(1, model.configuration.latent_channels, model.configuration.window_latents)
    wanted = parameters(untrimmed=True)
    whole = decode(model, wanted, latents)

    found = list(pieces(model, wanted, latents, piece_latents=7))

    assert len(found) == math.ceil(model.configuration.window_latents / 7)
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-6 * np.abs(whole).max())


def test_latents_of_pieces_are_those_of_the_whole(model: LoadedModel) -> None:
    c = model.configuration
    audio = torch.randn(1, c.channels, c.window_samples, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        found = encode(model, audio, piece_latents=7)

        means = model.network.pretransform.model.encoder(audio).chunk(2, dim=1)[0] / model.network.pretransform.scale
    assert found.shape == (1, c.latent_channels, c.window_latents)
    torch.testing.assert_close(found, means, atol=1e-5 * float(means.abs().max()), rtol=0)


def test_weights_made_for_serving_generate_the_same(model: LoadedModel, model_files: ModelFiles) -> None:
    network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
    for_serving(network, "float32")
    served, wanted = LoadedModel(network, model_files.configuration, CPU), parameters()
    latents = ours(model, wanted)

    assert torch.equal(ours(served, wanted), latents)
    np.testing.assert_allclose(decode(served, wanted, latents), decode(model, wanted, latents), atol=1e-7)


def test_weights_held_in_bfloat16_generate_what_casting_them_in_each_step_does(model_files: ModelFiles) -> None:
    wanted, made = parameters(sampler="dpmpp-2m"), []
    for held in (False, True):
        network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
        if held:
            for_serving(network, "bfloat16")
        made.append(ours(prepare(network, model_files.configuration, CPU, "bfloat16"), wanted))

    assert torch.equal(*made)


def test_the_text_of_a_prompt_is_encoded_once(model_files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
    fresh, asked = LoadedModel(network, model_files.configuration, CPU), list[list[str]]()
    encoder = network.conditioner.conditioners["prompt"]
    encode_texts = encoder.forward

    def watched(texts: list[str], device: torch.device) -> Any:
        asked.append(texts)
        return encode_texts(texts, device)

    monkeypatch.setattr(encoder, "forward", watched)

    for seed in (1, 2):
        ours(fresh, parameters(steps=1, seed=seed, negative_prompt="drums"))

    assert asked == [["calm piano in D minor"], ["drums"]]


def test_a_prompt_is_padded_while_others_are_counted(model_files: ModelFiles) -> None:
    """The tokenizer is one for all threads, and keeps the padding of the call before."""
    network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
    shared = LoadedModel(network, model_files.configuration, CPU)
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            prompt_tokens(shared, "calm piano " * 200)

    with ThreadPoolExecutor(2) as threads:
        counting = [threads.submit(count) for _ in range(2)]
        shapes = {tuple(shared.text_states(f"piano {number}")[0].shape[:2]) for number in range(300)}
        stop.set()
        for each in counting:
            each.result()

    assert shapes == {(1, 64)}


def test_output_that_is_not_finite_is_refused(model: LoadedModel) -> None:
    latents = torch.full((1, model.configuration.latent_channels, model.configuration.window_latents), math.nan)

    with pytest.raises(OutputNotFinite, match="not finite"):
        decode(model, parameters(), latents)


def test_tokens_are_counted_with_the_end_and_against_what_the_model_reads(model: LoadedModel) -> None:
    end_alone, read = prompt_tokens(model, "")
    more, _ = prompt_tokens(model, "calm piano")

    assert (end_alone, read) == (1, 64)
    assert more > end_alone


def test_bfloat16_stays_close_to_float32(model: LoadedModel) -> None:
    """On the CPU's autocast; the setting is for CUDA only."""
    wanted = parameters(sampler="dpmpp-2m", guidance_scale=1.0)
    exact = ours(model, wanted)
    rough = ours(LoadedModel(model.network, model.configuration, CPU, "bfloat16"), wanted)

    assert rough.dtype == torch.float32
    assert float((rough - exact).std() / exact.std()) < 0.05


def test_bfloat16_leaves_the_noise_level_exact(model_files: ModelFiles) -> None:
    network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
    prepare(network, model_files.configuration, CPU, "bfloat16")
    t = torch.tensor([[0.9987]])

    with torch.autocast("cpu", torch.bfloat16):
        features = network.model.model.timestep_features(t)

    assert torch.equal(features, network.model.model.timestep_features(t))


@pytest.mark.parametrize(("seconds", "latents"), [(0.1, 32), (4.0, 32), (4.1, 48), (6.1, 48)])
def test_only_the_latents_that_are_asked_for_are_denoised(
    model: LoadedModel, model_files: ModelFiles, seconds: float, latents: int
) -> None:
    """As by the same weights with a configuration of that window; the window has 48 latents of 0.128 s."""
    wanted = parameters(seconds_total=seconds, fit_window=True)
    document = {**model_files.configuration.document, "sample_size": latents * 2048}
    network = load(check(document), model_files.weights, model_files.text_encoder)
    short = LoadedModel(network, check(document), CPU)
    expected = list(denoise(short, parameters(seconds_total=seconds)))[-1].latents

    found = list(denoise(model, wanted))[-1].latents

    assert found.shape[-1] == latents
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert len(decode(model.fitted(wanted), wanted, found)) == round(seconds * 16000)
