"""From parameters to audio: conditions, denoising, decoding. Pure torch; nothing is stored here."""

import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier_model import ddim, flow, int8
from luthier_model.adapter_mix import AdapterMix
from luthier_model.compiled import Speedups
from luthier_model.conditions import KEPT, KEPT_LATENTS, SECONDS_START, SECONDS_TOTAL
from luthier_model.configuration import Configuration
from luthier_model.errors import OutputNotFinite
from luthier_model.guidance import Asked, Conditioning, Guided, Network, UNet, velocities
from luthier_model.library import SnakeBeta
from luthier_model.objectives import OBJECTIVES, V
from luthier_model.sampling import ADAPTIVE, SAMPLERS, Evaluation, Sampling, SeededNoise, levels_of
from luthier_model.transformer import Transformer

_DEFAULT: Final = OBJECTIVES[V]
MARGIN_LATENTS: Final = 16  # decoded beyond an edge; 10 leave an error of 1e-16 at full size
PIECE_LATENTS: Final = 256  # 12 s of Stable Audio Open; the margins are an eighth more work
FIT_LATENTS: Final = 32  # 1.5 s
TEXTS_KEPT: Final = 64  # 0.4 MB each with t5-base
EVALUATIONS: Final = {"k-heun": 2, "k-dpm-2": 2, "k-dpmpp-2s-ancestral": 2, ADAPTIVE: 3, "rk4": 4}
"""Of the network in a step, of samplers that take more than one."""

Samples = NDArray[np.float32]  # (samples, channels), full scale 1.0


@dataclass(frozen=True)
class Kept:
    """A part of a sound that is kept, seconds from its beginning."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class GenerationParameters:
    """One piece of audio: every value that decides its sound, but the model.

    Times in seconds; sigmas in units of the latents, along timesteps (of a flow, and of `ddim.py`) those, from 0 to 1
    and without a `sigma_min`. `init_noise_level` 0 = from noise alone. `untrimmed` = the whole window, to hear how well
    the model stops. Guidance acts where the amplitude of the noise is from `guidance_from` to `guidance_to`, 0 to 1.
    `keep`: what is kept of `init_audio` by a model that fills in the rest. `fit_window`: only the latents of
    `seconds_total` are denoised (`fitted`). The defaults are those of a transformer that
    predicts v.
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
    guidance_from: float = 0.0
    guidance_to: float = 1.0
    keep: tuple[Kept, ...] = ()
    fit_window: bool = False

    def named(self) -> dict[str, Any]:
        """What names the audio. Values that the first release did not have are left out where they change nothing, so
        that what was made before is found."""
        fields = asdict(self)
        plain = {"guidance_from": 0.0, "guidance_to": 1.0, "keep": (), "fit_window": False}
        return {name: value for name, value in fields.items() if name not in plain or value != plain[name]}


@dataclass(frozen=True)
class LoadedModel:
    """stable-audio-tools' wrapper on its device, and what its configuration says. Made by `prepare`.

    `precision` "bfloat16": the transformer's products; noise levels, latents, norms and the decoder stay float32.
    "int8": the weights of its blocks and what they are multiplied by (`int8.py`); the rest stays float32.
    """

    network: Any
    configuration: Configuration
    device: torch.device
    precision: str = "float32"
    speedups: Speedups | None = None
    tokenizing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Hold it to call the tokenizer, which keeps padding and truncation of a call as its own: a call in another thread
    would take them over, and get a prompt that is not padded."""

    @functools.cached_property
    def velocity_of(self) -> Network[Any]:
        """The network as it is evaluated."""
        if self.configuration.has_unet:
            return UNet(self.network.model)
        return Transformer(self.network.model.model, None if self.precision == "int8" else self.speedups)

    @functools.cached_property
    def _texts(self) -> "OrderedDict[str, Any]":
        return OrderedDict()

    def text_states(self, prompt: str) -> Any:
        """The text encoder's answer as the library's conditioner gives it; the last TEXTS_KEPT prompts are kept."""
        if prompt not in self._texts:
            while len(self._texts) >= TEXTS_KEPT:
                self._texts.popitem(last=False)
            encoder = self.network.conditioner.conditioners[self.configuration.text.id]
            with self.tokenizing:
                self._texts[prompt] = encoder([prompt], self.device)
        self._texts.move_to_end(prompt)
        return self._texts[prompt]

    def fitted(self, parameters: GenerationParameters) -> "LoadedModel":
        """The same model with the window of these parameters."""
        configuration = fitted(self.configuration, parameters)
        if configuration is self.configuration:
            return self
        model = replace(self, configuration=configuration)
        vars(model).update(velocity_of=self.velocity_of, _texts=self._texts)  # what is kept is of the weights
        return model


@dataclass(frozen=True)
class Step:
    """A step that is done: `number` of `total`, the noise level reached, the latents (1, channels, latents)."""

    number: int
    total: int
    sigma: float
    latents: Tensor


def prepare(
    network: Any, configuration: Configuration, device: torch.device, precision: str, speedups: Speedups | None = None
) -> LoadedModel:
    """A network made ready to generate; its weights stay as they are. `speedups` begin with `warm_up`.

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
    return LoadedModel(network, configuration, device, precision, speedups)


def longest(known: Configuration, guidance_scale: float = 2.0) -> GenerationParameters:
    """The whole window, by default guided."""
    objective = known.objective
    return GenerationParameters(
        "", 0, known.window_s, steps=2, sampler=objective.samplers[0], guidance_scale=guidance_scale,
        sigma_min=objective.sigma_min, sigma_max=objective.sigma_max,
    )  # fmt: skip


def warm_up(model: LoadedModel, together: int) -> int:
    """Makes ready what the model's speedups are for: passes of the whole window for up to `together` requests, guided
    all of them or none, without negative prompts. Returns how many shapes of a pass are ready: none without speedups,
    of a U-Net and of weights of 8 bits. Takes a pass of each, and the compiler what it takes.
    """
    network = model.velocity_of
    if not isinstance(network, Transformer) or network.layers is None:
        return 0
    with network.layers.warming_up():
        for number in range(together, 0, -1):  # the largest first
            for scale in (2.0, 1.0):
                parameters = longest(model.configuration, scale)
                evaluate([Denoising(model, parameters) for _ in range(number)])
    return network.layers.shapes


def for_serving(network: Any, precision: str) -> None:
    """Changes a network's weights into what generating reads, for good: it can be trained no more.

    Weight norm becomes the weight that it makes, and the constants of the autoencoder's activations are computed. With
    `precision` "bfloat16" the transformer's linear layers hold their weights so: autocast would cast them anew in every
    step; with "int8" its blocks' are rounded.
    """
    if precision == "int8":
        int8.round_weights(network)
    for module in network.pretransform.modules():
        if hasattr(module, "weight_g") and hasattr(module, "weight_v"):
            torch.nn.utils.remove_weight_norm(module)
        elif isinstance(module, SnakeBeta):
            module.forward = _snake(module)
    if precision == "bfloat16":
        for module in network.model.modules():
            if isinstance(module, torch.nn.Linear):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    setattr(module, name, torch.nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))


def _snake(module: SnakeBeta) -> Callable[[Tensor], Tensor]:
    """x + sin(a x)^2 / b (Ziyin 2020, as in BigVGAN), with a and b computed once and one tensor beside the input's."""
    a, b = module.alpha, module.beta  # (channels,)
    if module.alpha_logscale:
        a, b = torch.exp(a), torch.exp(b)
    a, share = a[:, None], (1.0 / (b + module.no_div_by_zero))[:, None]

    def forward(x: Tensor) -> Tensor:
        sines = torch.mul(x, a).sin_().square_()
        return torch.addcmul(x, sines, share, out=sines)

    return forward


class Denoising:
    """A request on its way from noise to latents: what it wants evaluated next, and what it has when all is done.

    `init_audio` (1, channels, window samples) is noised to `init_noise_level` and is where it starts from (0: from
    noise alone), and what the parameters' `keep` is of. `mix`: adapters that it is evaluated with. The same parameters
    give the same latents, whatever else is evaluated along with it: noise is drawn from the seed alone.
    """

    def __init__(
        self, model: LoadedModel, parameters: GenerationParameters, init_audio: Tensor | None = None,
        mix: AdapterMix | None = None,
    ) -> None:  # fmt: skip
        self.model, self.parameters, self._mix = model.fitted(parameters), parameters, mix
        model = self.model
        self._timesteps = model.configuration.objective.flow or parameters.sampler in ddim.DDIM_SAMPLERS
        with torch.inference_mode(), _precision(model):
            given = None if init_audio is None else encode(model, init_audio)
            self.guided = self._guided(given)
            self._sampling, self.levels = self._begun(given if parameters.init_noise_level else None)
            self.asked: Evaluation | None = next(self._sampling)
        self.latents: Tensor = self.asked.x
        """Those of the steps that are done, (1, channels, latents)."""
        self.steps_done = 0
        self.sigma: float = self.levels[0]
        """The noise level reached."""

    @property
    def total(self) -> int:
        """Steps in all. A sampler that finds its own is expected to go on in steps as large as so far."""
        if self.asked is None:
            return self.steps_done
        first, last, most = self.levels[0], self.levels[-1], len(self.levels) - 1
        if self.parameters.sampler != ADAPTIVE or not self.steps_done:
            return most
        return min(math.ceil(self.steps_done * math.log(first / last) / math.log(first / self.sigma)), most)

    def wanted(self) -> Asked[Any]:
        """What is asked of the network: latents of unit variance at a timestep from 0 to 1."""
        assert self.asked is not None
        x, t = self.asked.x, self.asked.level
        if not self._timesteps:
            x, t = x / math.sqrt(t * t + 1), math.atan(t) * 2 / math.pi
        amplitude = t if self.model.configuration.objective.flow else ddim.shares(t)[1]  # of the noise
        steered = self.parameters.guidance_from <= amplitude <= self.parameters.guidance_to
        return Asked(self.guided, x, t, steered, self.asked.both)

    def answer(self, velocity: Tensor) -> None:
        """Goes on to the next evaluation with the network's answer to what was asked."""
        assert self.asked is not None
        x, level, step = self.asked.x, self.asked.level, self.asked.step
        if not self._timesteps:
            norm = math.sqrt(level * level + 1)
            velocity = x / (norm * norm) - velocity * (level / norm)  # the expected clean latents
        try:
            self.asked = self._sampling.send(velocity)
        except StopIteration as done:
            if done.value is None:  # it broke at an earlier answer
                raise RuntimeError("the sampler has failed") from None
            self.asked, self.latents, self.steps_done, self.sigma = None, done.value, step + 1, self.levels[-1]
        else:
            if self.asked.step > self.steps_done:
                self.latents, self.steps_done, self.sigma = self.asked.x, self.asked.step, self.asked.level

    def _guided(self, given: Tensor | None) -> Guided[Any]:
        p, network = self.parameters, self.model.velocity_of
        told = self._told(p.prompt, given)
        if p.guidance_scale == 1.0:
            return Guided(network.branch(told, self._mix))
        negative = self._told(p.negative_prompt, given, negative=True) if p.negative_prompt else None
        other = network.other_branch(told, negative, self._mix)
        return Guided(network.branch(told, self._mix), other, p.guidance_scale, p.guidance_rescale)

    def _told(self, prompt: str, given: Tensor | None, *, negative: bool = False) -> Conditioning:
        """The library's names of what acts where, for a prompt, the seconds and what is kept of `given` latents."""
        model, c, p = self.model, self.model.configuration, self.parameters
        tensors = {c.text.id: model.text_states(prompt)}
        seconds = {SECONDS_START: p.seconds_start, SECONDS_TOTAL: p.seconds_total}
        for name, conditioner in model.network.conditioner.conditioners.items():
            if name in seconds:
                tensors[name] = conditioner([seconds[name]], model.device)
        if c.masks:
            latents = torch.zeros(1, c.latent_channels, c.window_latents) if given is None else given
            tensors |= kept_inputs(latents, kept_mask(c, p.keep).to(latents.device), model.device)
        told: Conditioning = model.network.get_conditioning_inputs(tensors, negative=negative)
        return told

    def _begun(self, given: Tensor | None) -> tuple[Sampling, Sequence[float]]:
        """The sampler before its first evaluation, and its levels: from given latents with noise, or noise alone."""
        model, c, p = self.model, self.model.configuration, self.parameters
        noise = SeededNoise(p.seed, (1, c.latent_channels, c.window_latents), model.device)
        start = p.init_noise_level or p.sigma_max
        if c.objective.flow:
            levels = flow.levels(p.steps, start)
            if p.sampler in flow.EVENLY:
                levels = flow.even_levels(p.steps, start, c.timestep_shift, c.window_latents)
            x = noise()
            if given is not None:
                x = given.lerp(x, start)
            return flow.FLOW_SAMPLERS[p.sampler](x, levels, noise), levels
        if p.sampler in ddim.DDIM_SAMPLERS:
            levels, x = ddim.levels(p.steps, start), noise()
            if given is not None:
                alpha, sigma = ddim.shares(start)
                x = given * alpha + x * sigma
            return ddim.DDIM_SAMPLERS[p.sampler](x, levels, noise), levels
        levels = levels_of(p.sampler, p.steps, p.sigma_min, start)
        x = noise() * start
        if given is not None:
            x = x + given
        return SAMPLERS[p.sampler](x, levels, noise), levels


def _precision(model: LoadedModel) -> AbstractContextManager[Any]:
    return torch.autocast(model.device.type, torch.bfloat16, enabled=model.precision == "bfloat16")


@torch.inference_mode()
def evaluate(together: Sequence[Denoising]) -> None:
    """What each asks for in one pass of the network, and each goes on. All are of one model and as long."""
    model = together[0].model
    with _precision(model):
        found = velocities(model.velocity_of, [each.wanted() for each in together])
        for each, velocity in zip(together, found, strict=True):
            each.answer(velocity)


def denoise(model: LoadedModel, parameters: GenerationParameters, init_audio: Tensor | None = None) -> Iterator[Step]:
    """A request alone: the whole window, a step at a time; nothing runs between the steps that the caller takes."""
    running, pace = Denoising(model, parameters, init_audio), Pace(model.device)
    while running.asked:
        before = running.steps_done
        while running.steps_done == before:
            evaluate([running])
            pace.keep()
        yield Step(running.steps_done, running.total, running.sigma, running.latents)


class Pace:
    """Keeps the host at most one evaluation ahead of the device.

    So progress is true, a cancel is quick, and the device always has work queued and never waits for the host.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._queued: torch.cuda.Event | None = None

    def keep(self) -> None:
        """Call after each evaluation."""
        if self._device.type == "cuda":
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
            if self._queued:
                self._queued.synchronize()
            self._queued = done


def decode(model: LoadedModel, parameters: GenerationParameters, latents: Tensor) -> Samples:
    """(samples, channels): as many as `seconds_total` says, or the whole window when `untrimmed`. See `pieces`."""
    return np.concatenate(list(pieces(model, parameters, latents)))


def pieces(
    model: LoadedModel, parameters: GenerationParameters, latents: Tensor, piece_latents: int = PIECE_LATENTS
) -> Iterator[Samples]:
    """The audio of latents in pieces (samples, channels) of at most `piece_latents`, one behind the other.

    Only the latents that this takes are decoded, and MARGIN_LATENTS on either side of each piece, so that memory does
    not grow with the length. OutputNotFinite when the model went out of bounds with these parameters.
    """
    c = model.configuration
    samples, ratio = length_of(c, parameters), c.downsampling_ratio
    for begin in range(0, math.ceil(samples / ratio), piece_latents):
        end = min(begin + piece_latents, math.ceil(samples / ratio))
        first = max(begin - MARGIN_LATENTS, 0)
        with torch.inference_mode():  # bfloat16 would be audible
            sound = model.network.pretransform.decode(latents[:, :, first : end + MARGIN_LATENTS].float())
            audio = sound[0, :, (begin - first) * ratio : min(end * ratio, samples) - first * ratio].T.float().cpu()
        piece = audio.numpy()  # (samples, channels)
        if not np.isfinite(piece).all():
            raise OutputNotFinite(
                "the model's output is not finite with these parameters: try a lower guidance_scale or sigma_max"
            )
        yield np.ascontiguousarray(piece)


def fitted(configuration: Configuration, parameters: GenerationParameters) -> Configuration:
    """The configuration with the window that is denoised: its own, or with `fit_window` the latents of `seconds_total`,
    rounded up to a multiple of FIT_LATENTS, so that requests of about one length can share passes.

    The model was trained on whole windows, and hears in it where a sound ends: so it is other audio, made sooner.
    """
    if not parameters.fit_window:
        return configuration
    samples = samples_of(parameters.seconds_total, configuration.sample_rate_hz)
    step = math.lcm(FIT_LATENTS, configuration.latents_step)
    latents = math.ceil(samples / configuration.downsampling_ratio / step) * step
    return configuration if latents >= configuration.window_latents else configuration.cut_to(latents)


def length_of(configuration: Configuration, parameters: GenerationParameters) -> int:
    """Samples per channel of the audio: as `seconds_total` says, or the whole window when `untrimmed`."""
    asked = samples_of(parameters.seconds_total, configuration.sample_rate_hz)
    return configuration.window_samples if parameters.untrimmed else min(asked, configuration.window_samples)


def pieces_of(configuration: Configuration, parameters: GenerationParameters) -> int:
    """How many pieces the audio is decoded in."""
    return math.ceil(length_of(configuration, parameters) / configuration.downsampling_ratio / PIECE_LATENTS)


def evaluations_of(parameters: GenerationParameters) -> int:
    """Evaluations of the network that the sampler asks for, at most."""
    return parameters.steps * EVALUATIONS.get(parameters.sampler, 1)


def kept_inputs(latents: Tensor, kept: Tensor | float, device: torch.device | str) -> dict[str, list[Tensor]]:
    """What a model that fills in the rest is given beside its conditions: the mask, and the latents that it keeps.

    `latents`: (batch, latent channels, latents); `kept`: (batch, 1, latents), 1 = kept, 0 = to be made, or one of the
    two for all.
    """
    mask = torch.zeros_like(latents[:, :1]) + kept
    return {KEPT: [mask.to(device)], KEPT_LATENTS: [(latents * mask).to(device)]}


def kept_mask(configuration: Configuration, keep: Sequence[Kept]) -> Tensor:
    """(1, 1, latents), 1 = kept: latents whose first sample is in a kept part, as the library takes them from a mask of
    samples."""
    firsts = torch.arange(configuration.window_latents, dtype=torch.float64) * configuration.downsampling_ratio
    mask = torch.zeros(1, 1, configuration.window_latents)
    for part in keep:
        first, end = (samples_of(at, configuration.sample_rate_hz) for at in (part.start_s, part.end_s))
        mask[..., (first <= firsts) & (firsts < end)] = 1.0
    return mask


def encode(model: LoadedModel, audio: Tensor, piece_latents: int = PIECE_LATENTS) -> Tensor:
    """Latents (1, channels, latents) of audio (1, channels, samples): the mean that the autoencoder gives.

    In pieces of at most `piece_latents`, with MARGIN_LATENTS on either side: memory does not grow with the length.
    """
    autoencoder, ratio = model.network.pretransform, model.configuration.downsampling_ratio
    latents, means = audio.shape[-1] // ratio, []
    for begin in range(0, latents, piece_latents):
        end = min(begin + piece_latents, latents)
        first = max(begin - MARGIN_LATENTS, 0)
        piece = audio[:, :, first * ratio : (end + MARGIN_LATENTS) * ratio].to(model.device)
        moments = autoencoder.model.encoder(piece)  # (1, 2 * channels, latents): mean and scale
        means.append(moments.chunk(2, dim=1)[0][:, :, begin - first : end - first].float())
    mean: Tensor = torch.cat(means, dim=2) / autoencoder.scale
    return mean


def prompt_tokens(model: LoadedModel, prompt: str) -> tuple[int, int]:
    """How many tokens the prompt is, its end included, and how many the model reads."""
    text = model.configuration.text
    tokenizer = model.network.conditioner.conditioners[text.id].tokenizer
    with model.tokenizing:
        return len(tokenizer(prompt)["input_ids"]), text.max_tokens


def samples_of(seconds: float, sample_rate_hz: int) -> int:
    """Samples per channel that `seconds` are, to the nearest."""
    return math.floor(seconds * sample_rate_hz + 0.5)
