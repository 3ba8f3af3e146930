"""The families of the papers: which configurations are accepted, and audio as stable-audio-tools makes it."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_audio_tools.inference import sampling as theirs
from stable_audio_tools.inference.generation import generate_diffusion_cond, generate_diffusion_cond_inpaint
from stable_audio_tools.models.conditioners import IntConditioner
from stable_audio_tools.models.factory import create_model_from_config

from luthier_model import descript, flow
from luthier_model.configuration import check
from luthier_model.errors import ConfigurationError
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
    kept_mask,
    prepare,
)
from luthier_model.loading import load
from luthier_model.network import WholeSeconds, shapes, skeleton
from luthier_model.objectives import OBJECTIVES, TimestepShift
from luthier_model.sampling import steps_of

from .families import (
    FAMILIES,
    Document,
    inpainting,
    prepended,
    small_family,
    stable_audio_1,
    stable_audio_2,
    stable_audio_open_small,
    stable_audio_open_small_base,
)
from .test_sampling import Recorded, last, wavy

CPU = torch.device("cpu")


def changed(document: Document, path: str, value: object) -> Document:
    document = copy.deepcopy(document)
    *way, end = path.split(".")
    node = document
    for name in way:
        node = node[int(name) if isinstance(node, list) else name]
    node[end] = value
    return document


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_familys_configuration_is_accepted(family: Callable[[], Document]) -> None:
    assert check(family()).document == family()


def test_stable_audio_open_small_has_the_published_size() -> None:
    """Novack 2025: 11.9 s of audio, a transformer of 0.34 billion parameters."""
    known = check(stable_audio_open_small())

    transformer = skeleton(known).model

    assert known.window_s == pytest.approx(11.9, abs=0.05)
    assert sum(each.numel() for each in transformer.parameters()) / 1e9 == pytest.approx(0.34, abs=0.01)


@pytest.mark.parametrize(
    ("family", "window_s", "parameters"),
    [(stable_audio_1, 95.1, 0.907), (stable_audio_2, 285.3, 1.1)],
    ids=["stable_audio_1", "stable_audio_2"],
)
def test_a_family_has_the_published_size(family: Callable[[], Document], window_s: float, parameters: float) -> None:
    """Evans 2024, "Fast Timing-Conditioned Latent Audio Diffusion": 95 s, a U-Net of 907 million parameters; and
    "Long-form Music Generation with Latent Diffusion": 285 s, a transformer of 1.1 billion.
    """
    known = check(family())

    network = skeleton(known).model

    assert known.window_s == pytest.approx(window_s, abs=0.05)
    assert sum(each.numel() for each in network.parameters()) / 1e9 == pytest.approx(parameters, rel=0.05)


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_are_those_that_the_library_builds(name: str) -> None:
    """Names and shapes at the true size, but of the text encoder, which no checkpoint holds."""
    document = FAMILIES[name]()
    theirs_alone = copy.deepcopy(document)
    configs = theirs_alone["model"]["conditioning"]["configs"]
    theirs_alone["model"]["conditioning"]["configs"] = [each for each in configs if each["id"] != "prompt"]

    with torch.device("meta"):
        expected = create_model_from_config(theirs_alone).state_dict()

    made = {name: shape for name, shape in shapes(check(document)).items() if ".prompt." not in name}
    assert made == {name: tuple(tensor.shape) for name, tensor in expected.items()}


@pytest.mark.parametrize("name", ["seconds_start", "seconds_total"])
def test_whole_seconds_are_the_librarys(name: str) -> None:
    """Where it takes them; of others the second that has begun, or all that are needed, as its data sets are told."""
    theirs_alone = IntConditioner(8, 0, 20)
    ours = WholeSeconds(theirs_alone, name)

    def told(conditioner: IntConditioner, *seconds: float) -> torch.Tensor:
        embedded: torch.Tensor
        embedded, mask = conditioner(list(seconds), "cpu")
        assert mask.shape == (len(seconds), 1)
        return embedded

    assert torch.equal(told(ours, 0, 7.0, 20, 512), told(theirs_alone, 0, 7, 20, 512))
    assert torch.equal(
        told(ours, 7.2, 7.8), told(theirs_alone, 7, 7) if name == "seconds_start" else told(theirs_alone, 8, 8)
    )


@pytest.mark.parametrize(
    ("document", "path", "value", "named"),
    [
        (stable_audio_1(), "model.diffusion.config.stft_num_fft", 512, None),
        (stable_audio_1(), "model.diffusion.config.embed_dim", 512, None),
        (stable_audio_1(), "model.diffusion.config.channels", 8192, None),
        (stable_audio_1(), "model.diffusion.config.channels", 100, "resnet_groups"),
        (stable_audio_1(), "model.diffusion.config.in_channels", 32, None),
        (stable_audio_1(), "model.diffusion.config.context_embedding_max_length", 78, None),
        (stable_audio_1(), "model.diffusion.config.context_embedding_features", 512, None),
        (stable_audio_1(), "model.diffusion.config.context_features", 768, None),
        (stable_audio_1(), "model.diffusion.config.multipliers", [4, 4, 4], None),
        (stable_audio_1(), "model.diffusion.config.attentions", [1, 1], None),
        (stable_audio_1(), "model.diffusion.config.use_xattn_time", True, None),
        (stable_audio_1(), "model.diffusion.prepend_cond_ids", ["seconds_total"], None),
        (stable_audio_1(), "model_type", "diffusion_cond_inpaint", "input_concat_ids"),
        (stable_audio_1(), "sample_size", 4194304 + 1024, None),
        (stable_audio_1(), "model.pretransform.config.encoder.config.strides", [4, 4, 8, 4], None),
        (stable_audio_1(), "model.pretransform.config.encoder.config.strides", [3, 5, 8, 8], None),
        (stable_audio_1(), "model.pretransform.config.encoder.config.d_model", 4096, None),
        (stable_audio_1(), "model.pretransform.config.decoder.config.channels", 1500, None),
        (stable_audio_1(), "model.pretransform.config.decoder.config.final_tanh", True, None),
        (stable_audio_1(), "model.conditioning.configs.1.config.min_val", 1, "configs[1].config.min_val"),
        (stable_audio_1(), "model.conditioning.configs.1.config.max_val", 1e9, "configs[1].config.max_val"),
        (stable_audio_2(), "model.conditioning.configs.0.config.finetune", True, "configs[0].config.finetune"),
        (stable_audio_2(), "model.conditioning.configs.0.config.feature_layer_ix", "-2", "feature_layer_ix"),
        (stable_audio_2(), "model.conditioning.configs.0.config.clap_ckpt_path", "", "clap_ckpt_path"),
        (stable_audio_2(), "model.conditioning.configs.0.config.max_length", 77, "configs[0].config.max_length"),
        (stable_audio_2(), "model.conditioning.configs.0.type", "clap_audio", "configs[0].type"),
        (stable_audio_2(), "model.diffusion.type", "adp_1d", None),
        (stable_audio_open_small(), "model.diffusion.diffusion_objective", "epsilon", None),
        (stable_audio_open_small(), "model.diffusion.config.attn_kwargs", {"qk_norm": "rms"}, "attn_kwargs.qk_norm"),
        (stable_audio_open_small(), "model.diffusion.config.attn_kwargs", {"causal": True}, "attn_kwargs.causal"),
        (stable_audio_open_small(), "model.diffusion.config.global_cond_dim", 1536, None),
        (stable_audio_open_small(), "model.diffusion.global_cond_ids", ["prompt"], None),
        (stable_audio_open_small(), "model.diffusion.global_cond_ids", ["seconds_start"], None),
        (stable_audio_open_small(), "model.diffusion.cross_attention_cond_ids", ["seconds_total"], None),
        (stable_audio_open_small(), "model.diffusion.cross_attention_cond_ids", ["prompt", "prompt"], None),
        (stable_audio_open_small(), "model.diffusion.cross_attention_cond_ids", [["prompt"]], None),
        (stable_audio_open_small(), "model.diffusion.prepend_cond_ids", ["seconds_total"], "prepend_cond_dim"),
        (stable_audio_open_small(), "model.diffusion.input_concat_ids", ["inpaint_mask"], None),
        (stable_audio_open_small(), "model.conditioning.pre_encoded_keys", ["prompt"], None),
        (stable_audio_open_small_base(), "model.diffusion.distribution_shift_options.max_shift", 1e9, None),
        (stable_audio_open_small_base(), "model.diffusion.distribution_shift_options.max_length", 16, None),
        (inpainting(), "model.diffusion.input_concat_ids", ["inpaint_mask", "inpaint_mask"], None),
        (inpainting(), "model.diffusion.input_concat_ids", [], None),
        (inpainting(), "model.diffusion.config.input_concat_dim", 64, None),
        (inpainting(), "training.inpainting.mask_kwargs", {"max_mask_segments": 10**9}, "max_mask_segments"),
        (inpainting(), "training.inpainting.mask_kwargs", {"mask_type_probabilities": [1, 1, 1]}, "probabilities"),
        (inpainting(), "training.inpainting.mask_kwargs", {"magic": 1}, "mask_kwargs.magic"),
        (inpainting(), "training.inpainting.mask_kwargs", 3, None),
        (prepended(), "model.diffusion.prepend_cond_ids", [], "model.conditioning.configs"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(document: Document, path: str, value: object, named: str | None) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check(changed(document, path, value))

    assert any((named or path) in field for field, _ in refused.value.violations)


@pytest.mark.parametrize(
    "conditions",
    [
        [{"id": "bpm", "type": "number", "config": {"min_val": 0, "max_val": 200}}],
        [{"id": "seconds_total", "type": "number", "config": {"min_val": 0, "max_val": 200}}] * 2,
        [{"id": "seconds_start", "type": "number", "config": {"min_val": 0, "max_val": 200}}],
        [{"id": "seconds_total", "type": "t5", "config": {"t5_model_name": "t5-base"}}],
        [],
    ],
    ids=["of another thing", "twice", "without the length", "of another type", "without numbers"],
)
def test_other_conditions_are_refused(conditions: list[Document]) -> None:
    document = stable_audio_open_small()
    prompt = document["model"]["conditioning"]["configs"][0]
    document["model"]["conditioning"]["configs"] = [prompt, *conditions]

    with pytest.raises(ConfigurationError, match=r"conditioning\.configs"):
        check(document)


def test_stable_audio_3_is_refused_with_what_is_missing() -> None:
    document = inpainting()
    document["model"]["pretransform"]["config"]["bottleneck"] = {"type": "softnorm", "config": {"dim": 256}}
    document["model"]["pretransform"]["config"]["encoder"]["config"]["variable_stride"] = True
    document["model"]["conditioning"]["configs"][0] = {
        "id": "prompt",
        "type": "t5gemma",
        "config": {"repo_id": "stabilityai/stable-audio-3-medium", "max_length": 256},
    }
    document["model"]["diffusion"]["local_add_cond_ids"] = ["inpaint_mask"]
    document["model"]["diffusion"]["config"]["timestep_features_type"] = "expo"
    document["model"]["diffusion"]["config"]["attn_kwargs"] = {"differential": True}

    with pytest.raises(ConfigurationError) as refused:
        check(document)

    ((_, text),) = refused.value.violations
    assert "Stable Audio 3" in text
    for part in ("T5Gemma", "soft-norm", "resampling", "local_add", "timestep_features", "differential"):
        assert part in text
    assert "sampling_distribution_shift_options" not in text  # it was not asked for


@pytest.mark.parametrize("weird", [None, 3, [], {"model": 3}, {"model": {"conditioning": {"configs": [1, "t5gemma"]}}}])
def test_a_document_of_any_shape_is_refused(weird: object) -> None:
    with pytest.raises(ConfigurationError):
        check(weird)


@pytest.mark.parametrize("latents", [256, 300, 4096])
@pytest.mark.parametrize("sine", [False, True])
def test_the_shift_of_timesteps_is_the_librarys(latents: int, sine: bool) -> None:
    options: dict[str, Any] = {
        "base_shift": 0.4,
        "max_shift": 1.3,
        "min_length": 256,
        "max_length": 4096,
        "use_sine": sine,
    }
    timesteps = torch.linspace(0, 1, 21, dtype=torch.float64)

    ours = TimestepShift(**options)(timesteps, latents)

    torch.testing.assert_close(ours, theirs.DistributionShift(**options).time_shift(timesteps, latents))


def test_the_shift_stays_beyond_its_lengths() -> None:
    """stable-audio-tools 0.0.19 extrapolates: a training on audio, whose length is in samples, sees noise alone."""
    shift, timesteps = TimestepShift(), torch.tensor([0.1, 0.5])

    torch.testing.assert_close(shift(timesteps, 524288), shift(timesteps, 4096))
    torch.testing.assert_close(shift(timesteps, 1), shift(timesteps, 256))


SOLVERS = {
    "euler": theirs.sample_discrete_euler,
    "rk4": theirs.sample_rk4,
    "dpmpp": theirs.sample_flow_dpmpp,
    "pingpong": theirs.sample_flow_pingpong,
}


@pytest.mark.parametrize("name", flow.FLOW_SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_a_sampler_agrees_with_the_library_given_the_same_noise(
    name: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels, x = flow.levels(steps), Recorded()()
    draws = Recorded()
    monkeypatch.setattr(torch, "randn_like", lambda _: draws())

    expected = SOLVERS[name](wavy, x, sigmas=torch.tensor(levels, dtype=torch.float64))

    torch.testing.assert_close(
        last(steps_of(flow.FLOW_SAMPLERS[name](x, levels, Recorded()), wavy)), expected, atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("name", flow.FLOW_SAMPLERS)
def test_a_sampler_reaches_the_data_that_the_flow_leads_to(name: str) -> None:
    """Of a flow from N(0, 1) to N(2, 0.25) the velocity is known: its mean and spread come out."""
    mean, spread = 2.0, 0.5

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        variance = (1 - t) ** 2 * spread**2 + t**2
        gain = (t - (1 - t) * spread**2) / variance
        return gain * (x - (1 - t) * mean) - mean

    noise = torch.randn(40_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    more = torch.Generator().manual_seed(2)
    draw = lambda: torch.randn(noise.shape, generator=more, dtype=torch.float64)  # noqa: E731

    made = last(steps_of(flow.FLOW_SAMPLERS[name](noise, flow.levels(100), draw), velocity))

    assert float(made.mean()) == pytest.approx(mean, abs=0.02)
    if name != "pingpong":  # it ends at the expectation of a last guess, so its spread is smaller
        assert float(made.std()) == pytest.approx(spread, rel=0.06)  # the last level, 0.12, is one step from 0


@pytest.mark.parametrize("wrong", [(0, 1.0), (3, 0.0), (3, 1.5), (3, math.nan)])
def test_levels_that_make_no_sense_are_refused(wrong: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="steps >= 1"):
        flow.levels(*wrong)


@pytest.mark.parametrize("start", [OBJECTIVES["rectified_flow"].lowest_start, 0.5, 1.0])
def test_levels_fall(start: float) -> None:
    levels = flow.levels(1000, start)

    assert levels == sorted(levels, reverse=True)
    assert (levels[0], levels[-1], len(levels)) == (start, 0.0, 1001)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    models: dict[str, LoadedModel] = {}

    def of(name: str) -> LoadedModel:
        if name not in models:
            files = small_family(name, tmp_path_factory.mktemp(name))
            network = load(files.configuration, files.weights, files.text_encoder)
            models[name] = prepare(network, files.configuration, CPU, "float32")
        return models[name]

    return of


def parameters(model: LoadedModel, **fields: Any) -> GenerationParameters:
    objective = model.configuration.objective
    defaults: dict[str, Any] = {
        "prompt": "calm piano in D minor",
        "seed": 11,
        "seconds_total": 0.15,
        "steps": 5,
        "sampler": objective.samplers[0],
        "sigma_min": objective.sigma_min,
        "sigma_max": objective.sigma_max,
        "guidance_scale": model.configuration.guidance_scale,
        "guidance_rescale": model.configuration.guidance_rescale,
    }
    return GenerationParameters(**{**defaults, **fields})


def library(model: LoadedModel, p: GenerationParameters, **more: Any) -> torch.Tensor:
    """The latents that stable-audio-tools makes with the same parameters."""

    def told(prompt: str) -> list[Document]:
        return [{"prompt": prompt, "seconds_start": p.seconds_start, "seconds_total": p.seconds_total}]

    generate = generate_diffusion_cond_inpaint if model.configuration.masks else generate_diffusion_cond
    with torch.inference_mode():
        latents: torch.Tensor = generate(
            model.network,
            steps=p.steps,
            cfg_scale=p.guidance_scale,
            conditioning=told(p.prompt),
            negative_conditioning=told(p.negative_prompt) if p.negative_prompt else None,
            sample_size=model.configuration.window_samples,
            seed=p.seed,
            device="cpu",
            sampler_type=p.sampler,
            return_latents=True,
            **({} if model.configuration.objective.flow else {"sigma_min": p.sigma_min, "sigma_max": p.sigma_max}),
            **more,
        )
    return latents


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("stable_audio_open_small", {}),
        ("stable_audio_open_small", {"guidance_scale": 4.0, "negative_prompt": "loud drums"}),
        ("stable_audio_open_small_base", {"sampler": "euler"}),
        ("stable_audio_open_small_base", {"sampler": "dpmpp", "negative_prompt": "loud drums"}),
        ("stable_audio_open_small_base", {"sampler": "rk4"}),
        ("inpainting", {"sampler": "dpmpp-2m"}),
        ("inpainting_flow", {}),
        ("prepended", {"sampler": "dpmpp-2m", "seconds_start": 3.0}),
        ("stable_audio_2", {"sampler": "dpmpp-2m"}),
        ("stable_audio_2", {"sampler": "dpmpp-2m", "seconds_start": 3.0, "negative_prompt": "loud drums"}),
        ("one_vector", {"sampler": "dpmpp-2m", "negative_prompt": "loud drums"}),
        ("stable_audio_1", {"sampler": "dpmpp-2m", "seconds_start": 3.0}),
        ("stable_audio_1", {"sampler": "k-heun", "negative_prompt": "loud drums"}),
        ("stable_audio_1", {"sampler": "dpmpp-2m", "guidance_scale": 1.0, "negative_prompt": "loud drums"}),
    ],
    ids=lambda each: each if isinstance(each, str) else "-".join(map(str, each.values())) or "default",
)
def test_latents_are_those_of_stable_audio_tools(
    loaded: Callable[[str], LoadedModel], family: str, fields: Document
) -> None:
    model = loaded(family)
    wanted = parameters(model, **fields)

    expected = library(model, wanted)

    made = list(denoise(model, wanted))[-1].latents
    assert made.shape == (1, model.configuration.latent_channels, model.configuration.window_latents)
    torch.testing.assert_close(made, expected, rtol=2e-4, atol=2e-4 * float(expected.std()))


@pytest.mark.parametrize("sampler", ["euler", "rk4"])
def test_variations_of_a_flow_are_the_librarys(
    loaded: Callable[[str], LoadedModel], sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("stable_audio_open_small")
    wanted = parameters(model, sampler=sampler, init_noise_level=0.5)
    audio = 0.3 * torch.randn(1, 2, model.configuration.window_samples, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model.network.pretransform, "encode", lambda sound: encode(model, sound))

    expected = library(model, wanted, init_audio=(16000, audio[0]), init_noise_level=0.5)

    made = list(denoise(model, wanted, audio))[-1].latents
    torch.testing.assert_close(made, expected, rtol=2e-4, atol=2e-4 * float(expected.std()))


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("inpainting", {"sampler": "dpmpp-2m", "negative_prompt": "loud drums"}),
        ("inpainting", {"sampler": "dpmpp-2m", "init_noise_level": 2.0}),
        ("inpainting_flow", {}),
    ],
    ids=["of v", "of v, from audio", "of a flow"],
)
def test_what_is_kept_is_what_the_library_keeps(
    loaded: Callable[[str], LoadedModel], family: str, fields: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(family)
    c = model.configuration
    keep = (Kept(0.0, 0.0701), Kept(0.1, 0.13))
    wanted = parameters(model, keep=keep, **fields)
    audio = 0.3 * torch.randn(1, 2, c.window_samples, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model.network.pretransform, "encode", lambda sound: encode(model, sound))
    mask = torch.zeros(1, c.window_samples)
    for part in keep:
        mask[:, round(part.start_s * c.sample_rate_hz) : round(part.end_s * c.sample_rate_hz)] = 1
    start = (
        {"init_audio": (c.sample_rate_hz, audio[0]), "init_noise_level": 2.0} if "init_noise_level" in fields else {}
    )

    expected = library(model, wanted, inpaint_audio=(c.sample_rate_hz, audio[0]), inpaint_mask=mask, **start)

    made = list(denoise(model, wanted, audio))[-1].latents
    torch.testing.assert_close(made, expected, rtol=2e-4, atol=2e-4 * float(expected.std()))
    nothing = list(denoise(model, parameters(model, **fields), audio))[-1].latents
    assert not torch.allclose(made, nothing, rtol=1e-2)


def test_kept_are_the_latents_that_begin_in_what_is_kept(loaded: Callable[[str], LoadedModel]) -> None:
    c = loaded("inpainting").configuration
    latent_s = c.downsampling_ratio / c.sample_rate_hz

    mask = kept_mask(
        c, [Kept(0, 0.5 * latent_s), Kept(1.5 * latent_s, 3 * latent_s), Kept(4.1 * latent_s, 4.9 * latent_s)]
    )

    assert mask[0, 0, :6].tolist() == [1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_condition_is_heard(loaded: Callable[[str], LoadedModel], family: str) -> None:
    model = loaded(family)

    def made(**fields: Any) -> torch.Tensor:
        return list(denoise(model, parameters(model, steps=2, **fields)))[-1].latents

    first = made()
    assert not torch.allclose(first, made(prompt="loud drums and bass, funk, 120 BPM"))
    assert not torch.allclose(first, made(seconds_total=1.5))  # of whole seconds 0.15 is one, and this two
    assert torch.equal(first, made(seconds_start=3.0)) == ("seconds_start" not in model.configuration.seconds)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_makes_audio_of_the_length_asked_for(loaded: Callable[[str], LoadedModel], family: str) -> None:
    model = loaded(family)
    wanted = parameters(model, steps=1)

    (step,) = denoise(model, wanted)

    assert decode(model, wanted, step.latents).shape == (2400, 2)


def test_half_weights_become_float32(tmp_path: Path) -> None:
    """As a checkpoint of a configuration with model_half holds them."""
    from safetensors.torch import load_file, save_file

    files = small_family("stable_audio_open_small", tmp_path)
    state = load_file(files.weights)
    halves = {name: t.half() if name.startswith("pretransform") else t for name, t in state.items()}
    save_file(halves, tmp_path / "half.safetensors")

    network = load(files.configuration, tmp_path / "half.safetensors", files.text_encoder)

    assert {each.dtype for each in network.parameters()} == {torch.float32}


def test_a_part_is_decoded_as_in_the_whole() -> None:
    """Of the Descript codec's decoder at its published strides: what is decoded beyond an edge is enough."""
    torch.manual_seed(1)
    decoder = descript.Decoder(input_channel=4, channels=16, rates=[8, 8, 4, 4], d_out=2).double()
    latents = torch.randn(1, 4, 64, dtype=torch.float64)
    with torch.no_grad():
        whole, part = decoder(latents), decoder(latents[..., : 30 + MARGIN_LATENTS])

    assert whole.shape == (1, 2, 64 * 1024)
    torch.testing.assert_close(part[..., : 30 * 1024], whole[..., : 30 * 1024], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_requests_share_steps_as_alone(name: str, tmp_path: Path) -> None:
    files = small_family(name, tmp_path)
    network = load(files.configuration, files.weights, files.text_encoder)
    model = prepare(network, files.configuration, CPU, "float32")
    wanted = [parameters(model, steps=3, seed=1), parameters(model, steps=2, seed=2, negative_prompt="loud drums")]
    alone = [list(denoise(model, each))[-1].latents for each in wanted]

    together = [Denoising(model, each) for each in wanted]
    while running := [each for each in together if each.asked]:
        evaluate(running)

    for each, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(each.latents, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
