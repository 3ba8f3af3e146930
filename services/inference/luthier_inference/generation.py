"""From an order to samples: conditions, denoising, decoding."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier_inference.devices import Pace, arithmetic
from luthier_inference.order import Order, samples_of
from luthier_inference.sound import Samples
from luthier_kit.errors import FailedPrecondition
from luthier_model.configuration import Configuration
from luthier_model.guidance import GuidedDenoiser
from luthier_model.sampler import SAMPLERS, SeededNoise
from luthier_model.schedules import polyexponential

MARGIN_LATENTS = 16  # what the decoder hears beyond an edge; 10 leave an error of 1e-16 at full size


@dataclass(frozen=True)
class Model:
    """A loaded model: stable-audio-tools' wrapper on its device, and what its configuration says."""

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


@torch.inference_mode()
def denoise(model: Model, order: Order, init_audio: Tensor | None = None) -> Iterator[Step]:
    """The whole window, a step at a time; nothing runs between the steps that the caller takes.

    `init_audio` (1, channels, window samples) is noised to `order.init_noise_level` and is where it starts from.
    """
    c = model.configuration
    noise = SeededNoise(order.seed, (1, c.latent_channels, c.window_latents), model.device)
    sigmas = polyexponential(order.steps, order.sigma_min, order.sigma_start)
    ask, x = _denoiser(model, order), noise() * sigmas[0]
    if init_audio is not None:
        x = x + encode(model, init_audio)
    pace, steps = Pace(model.device), iter(SAMPLERS[order.sampler](ask, x, sigmas, noise))
    for number, sigma in enumerate(sigmas[1:], 1):
        with arithmetic(model.device, model.precision):
            latents = next(steps)
        pace.step()
        yield Step(number, order.steps, sigma, latents)


@torch.inference_mode()
def decode(model: Model, order: Order, latents: Tensor) -> Samples:
    """(samples, channels): as many as `seconds_total` asks for, or the whole window for an untrimmed order.

    Only the latents that this takes are decoded.

    FailedPrecondition OUTPUT_NOT_FINITE when the model went out of bounds with these parameters.
    """
    c = model.configuration
    asked = c.window_samples if order.untrimmed else samples_of(order.seconds_total, c.sample_rate_hz)
    samples = min(asked, c.window_samples)
    taken = latents[:, :, : math.ceil(samples / c.downsampling_ratio) + MARGIN_LATENTS]
    sound = model.network.pretransform.decode(taken.float())  # never in bfloat16: its 8 bits are audible
    audio = sound[0, :, :samples].T.float().cpu().numpy()
    if not np.isfinite(audio).all():
        text = "the model's output is not finite with these parameters: try a lower guidance_scale or sigma_max"
        raise FailedPrecondition(text, reason="OUTPUT_NOT_FINITE")
    return np.ascontiguousarray(audio)


def encode(model: Model, audio: Tensor) -> Tensor:
    """Latents (1, channels, latents) of audio (1, channels, samples): the mean of what the autoencoder says."""
    codec = model.network.pretransform
    moments = codec.model.encoder(audio.to(model.device))
    return moments.chunk(2, dim=1)[0].float() / codec.scale


def prompt_tokens(model: Model, prompt: str) -> tuple[int, int]:
    """How many tokens the prompt is, its end included, and how many the model reads."""
    text = model.configuration.text
    tokenizer = model.network.conditioner.conditioners[text.id].tokenizer
    return len(tokenizer(prompt)["input_ids"]), text.max_tokens


def _denoiser(model: Model, order: Order) -> GuidedDenoiser:
    network = model.network
    seconds = {"seconds_start": order.seconds_start, "seconds_total": order.seconds_total}

    def tensors(prompt: str) -> Any:
        return network.conditioner([{"prompt": prompt, **seconds}], model.device)

    positive = network.get_conditioning_inputs(tensors(order.prompt))
    negative = None
    if order.negative_prompt and order.guidance_scale != 1.0:
        negative = network.get_conditioning_inputs(tensors(order.negative_prompt), negative=True)
    return GuidedDenoiser(
        network.model,
        positive,
        negative=negative,
        scale=order.guidance_scale,
        rescale=order.guidance_rescale,
    )
