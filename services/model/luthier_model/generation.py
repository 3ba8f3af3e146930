"""From parameters to audio: conditions, denoising, decoding. Pure torch; nothing is stored here."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier_model import flow
from luthier_model.conditions import KEPT, KEPT_LATENTS
from luthier_model.configuration import Configuration
from luthier_model.errors import OutputNotFinite
from luthier_model.network import without_conditions
from luthier_model.objectives import OBJECTIVES, V
from luthier_model.sampling import SAMPLERS, GuidedDenoiser, SeededNoise, noise_levels

_DEFAULT: Final = OBJECTIVES[V]
MARGIN_LATENTS: Final = 16  # decoded beyond an edge; 10 leave an error of 1e-16 at full size

Samples = NDArray[np.float32]  # (samples, channels), full scale 1.0


@dataclass(frozen=True)
class GenerationParameters:
    """One piece of audio: every value that decides its sound, but the model.

    Times in seconds; sigmas in units of the latents, for a flow the share of noise (it has no `sigma_min`).
    `init_noise_level` 0 = from noise alone. `untrimmed` = the whole window, to hear how well the model stops. The
    defaults are those of a transformer that predicts v.
    """

    prompt: str
    seed: int
    seconds_total: float
    seconds_start: float = 0.0
    negative_prompt: str = ""
    steps: int = _DEFAULT.steps
    sampler: str = _DEFAULT.samplers[0]
    sigma_min: float = _DEFAULT.sigma_min
    sigma_max: float = _DEFAULT.sigma_max
    guidance_scale: float = _DEFAULT.guidance_scale
    guidance_rescale: float = 0.0
    init_noise_level: float = 0.0
    untrimmed: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """stable-audio-tools' wrapper on its device, and what its configuration says. Made by `prepare`.

    `precision` "bfloat16": the transformer's products; weights, noise levels, latents and the decoder stay float32.
    """

    network: Any
    configuration: Configuration
    device: torch.device
    precision: str = "float32"


@dataclass(frozen=True)
class Step:
    """A step that is done: `number` of `total`, the noise level reached, the latents (1, channels, latents)."""

    number: int
    total: int
    sigma: float
    latents: Tensor


def prepare(network: Any, configuration: Configuration, device: torch.device, precision: str) -> LoadedModel:
    """A network made ready to generate.

    The embedding of the noise level is taken out of autocast: near noise alone the levels differ by less than
    bfloat16's step below 1 (0.004), so sigma 500 would be taken for infinity or for 160. TF32 is switched off for
    convolutions, in the whole process: its 10 bits are audible in the decoder.
    """
    torch.backends.cudnn.allow_tf32 = False
    inner = network.model.model
    features = inner.to_time if configuration.has_unet else inner.timestep_features
    in_autocast = features.forward

    def exact(t: Tensor) -> Tensor:
        with torch.autocast(t.device.type, enabled=False):
            embedding: Tensor = in_autocast(t.float())
            return embedding

    features.forward = exact
    return LoadedModel(network, configuration, device, precision)


@torch.inference_mode()
def denoise(model: LoadedModel, parameters: GenerationParameters, init_audio: Tensor | None = None) -> Iterator[Step]:
    """The whole window, a step at a time; nothing runs between the steps that the caller takes.

    `init_audio` (1, channels, window samples) is noised to `init_noise_level` and is where it starts from. The same
    parameters give the same latents: noise is drawn from the seed alone.
    """
    c, p, network = model.configuration, parameters, model.network

    def conditioning(prompt: str, *, negative: bool = False) -> dict[str, Tensor | None]:
        values = {"prompt": prompt, "seconds_start": p.seconds_start, "seconds_total": p.seconds_total}
        tensors = network.conditioner([values], model.device)
        if c.masks:
            tensors |= kept_inputs(torch.zeros(1, c.latent_channels, c.window_latents), 0.0, model.device)
        inputs: dict[str, Tensor | None] = network.get_conditioning_inputs(tensors, negative=negative)
        return inputs

    negative = None
    if p.negative_prompt and p.guidance_scale != 1.0:
        negative = conditioning(p.negative_prompt, negative=True)
    denoiser = GuidedDenoiser(
        network.model,
        conditioning(p.prompt),
        negative=negative,
        scale=p.guidance_scale,
        rescale=p.guidance_rescale,
        unconditional=functools.partial(without_conditions, network.model),
    )
    noise = SeededNoise(p.seed, (1, c.latent_channels, c.window_latents), model.device)
    start = p.init_noise_level or p.sigma_max
    if c.objective.flow:
        levels = flow.levels(p.steps, start)
        if p.sampler in flow.EVENLY:
            levels = flow.even_levels(p.steps, start, c.timestep_shift, c.window_latents)
        x = noise()
        if init_audio is not None:
            x = encode(model, init_audio).lerp(x, start)
        steps = iter(flow.FLOW_SAMPLERS[p.sampler](denoiser.velocity, x, levels, noise))
    else:
        levels = noise_levels(p.steps, p.sigma_min, start)
        x = noise() * levels[0]
        if init_audio is not None:
            x = x + encode(model, init_audio)
        steps = iter(SAMPLERS[p.sampler](denoiser, x, levels, noise))
    queued: torch.cuda.Event | None = None
    for number, sigma in enumerate(levels[1:], 1):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.precision == "bfloat16"):
            latents = next(steps)
        if model.device.type == "cuda":
            # The host stays at most one step ahead of the device: progress is true, a cancel is quick, and the device
            # always has a step queued, so it never waits for the host.
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
            if queued:
                queued.synchronize()
            queued = done
        yield Step(number, p.steps, sigma, latents)


@torch.inference_mode()
def decode(model: LoadedModel, parameters: GenerationParameters, latents: Tensor) -> Samples:
    """(samples, channels): as many as `seconds_total` says, or the whole window when `untrimmed`.

    Only the latents that this takes are decoded. OutputNotFinite when the model went out of bounds with these
    parameters.
    """
    c = model.configuration
    asked = c.window_samples if parameters.untrimmed else samples_of(parameters.seconds_total, c.sample_rate_hz)
    samples = min(asked, c.window_samples)
    needed = latents[:, :, : math.ceil(samples / c.downsampling_ratio) + MARGIN_LATENTS]
    sound = model.network.pretransform.decode(needed.float())  # (1, channels, samples); bfloat16 would be audible
    audio = sound[0, :, :samples].T.float().cpu().numpy()
    if not np.isfinite(audio).all():
        raise OutputNotFinite(
            "the model's output is not finite with these parameters: try a lower guidance_scale or sigma_max"
        )
    return np.ascontiguousarray(audio)


def kept_inputs(latents: Tensor, kept: Tensor | float, device: torch.device | str) -> dict[str, list[Tensor]]:
    """What a model that fills in the rest is given beside its conditions: the mask, and the latents that it keeps.

    `latents`: (batch, latent channels, latents); `kept`: (batch, 1, latents), 1 = kept, 0 = to be made, or one of the
    two for all.
    """
    mask = torch.zeros_like(latents[:, :1]) + kept
    return {KEPT: [mask.to(device)], KEPT_LATENTS: [(latents * mask).to(device)]}


def encode(model: LoadedModel, audio: Tensor) -> Tensor:
    """Latents (1, channels, latents) of audio (1, channels, samples): the mean that the autoencoder gives."""
    autoencoder = model.network.pretransform
    moments = autoencoder.model.encoder(audio.to(model.device))  # (1, 2 * channels, latents): mean and scale
    mean: Tensor = moments.chunk(2, dim=1)[0].float() / autoencoder.scale
    return mean


def prompt_tokens(model: LoadedModel, prompt: str) -> tuple[int, int]:
    """How many tokens the prompt is, its end included, and how many the model reads."""
    text = model.configuration.text
    tokenizer = model.network.conditioner.conditioners[text.id].tokenizer
    return len(tokenizer(prompt)["input_ids"]), text.max_tokens


def samples_of(seconds: float, sample_rate_hz: int) -> int:
    """Samples per channel that `seconds` are, to the nearest."""
    return math.floor(seconds * sample_rate_hz + 0.5)
