"""A model configuration, checked before anything is built from it.

The document is stable-audio-tools' `model_config.json`, kept as it is. Known are the families of Stable Audio 1, 2,
Open and Open Small: a conditioned latent diffusion transformer (`dit`) or U-Net (`adp_cfg_1d`) over a variational
autoencoder (`oobleck`, `dac`), conditioned by one prompt (`t5`, `clap_text`) and by seconds (`number`, `int`), trained
to predict `v` or the velocity of a rectified flow; and the kind that fills in what a mask leaves out
(`diffusion_cond_inpaint`). Whatever else the library could build is refused: some of it unpickles files or fetches from
the network.

Units: samples at `sample_rate_hz`; a latent is `downsampling_ratio` samples.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from luthier_kit.bounded_json import read_json
from luthier_model import conditions, stable_audio_1, unsupported
from luthier_model.conditions import CLAP_TEXT, PROMPT, SECONDS, T5, Violation
from luthier_model.errors import ConfigurationError
from luthier_model.objectives import OBJECTIVES, Objective, TimestepShift, V
from luthier_model.rules import BOOL, Choice, Integer, Integers, Real, Rule, Shares
from luthier_model.stable_audio_1 import DAC, UNET

STABLE_AUDIO_OPEN: Final = "stable-audio-open-1.0"
TINY, SMALL = "tiny", "small"  # trained on any CPU
MAX_CONFIGURATION_BYTES: Final = 1 << 20
MAX_CONFIGURATION_DEPTH: Final = 32
MIN_HEAD_WIDTH: Final = 32  # narrower attention heads break the library's rotary embedding
MAX_WINDOW_LATENTS: Final = 1 << 15
INPAINTING: Final = "diffusion_cond_inpaint"
MAX_MASK_SEGMENTS: Final = 1000
TRANSFORMER, OOBLECK = "dit", "oobleck"
CLAP_TOKENS: Final = 77
"""What CLAP's text encoder reads of a prompt; the library has no field for it."""

_DIT, _AUTOENCODER = "model.diffusion.config", "model.pretransform.config"
_OBJECTIVE, _SHIFT = "model.diffusion.diffusion_objective", "model.diffusion.distribution_shift_options"
_MASKS = "training.inpainting.mask_kwargs"


@dataclass(frozen=True)
class TextCondition:
    """The encoder behind the prompt: its type and name, and how many tokens it reads.

    `layer`: of CLAP, the hidden layer whose states are taken, as Python counts; None: one vector for the whole prompt.
    """

    id: str
    type: str
    encoder: str
    max_tokens: int
    project_out: bool
    layer: int | None = None

    @property
    def states(self) -> int:
        """How many tokens the prompt is in cross attention."""
        return 1 if self.type == CLAP_TEXT and self.layer is None else self.max_tokens


@dataclass(frozen=True)
class Masks:
    """How masks are drawn for a model that fills in what is masked, by the library's `random_inpaint_mask`.

    `probabilities`: of up to `max_segments` random gaps, of nothing kept, of a beginning kept. The defaults are the
    library's.
    """

    max_segments: int = 10
    probabilities: tuple[float, float, float] = (0.1, 0.8, 0.1)


@dataclass(frozen=True)
class Configuration:
    """A checked configuration.

    `document` is the JSON as it came; `window_samples` is what the model always denoises and decodes.
    """

    document: Mapping[str, Any]

    @property
    def sample_rate_hz(self) -> int:
        return int(self.document["sample_rate"])

    @property
    def channels(self) -> int:
        return int(self.document["audio_channels"])

    @property
    def window_samples(self) -> int:
        return int(self.document["sample_size"])

    @property
    def window_s(self) -> float:
        return self.window_samples / self.sample_rate_hz

    @property
    def downsampling_ratio(self) -> int:
        return int(_at(self.document, f"{_AUTOENCODER}.downsampling_ratio"))

    @property
    def window_latents(self) -> int:
        return self.window_samples // self.downsampling_ratio

    @property
    def latents_step(self) -> int:
        """A window's latents are a multiple of this: a U-Net halves it so often, a transformer may take them by the
        patch."""
        network = self.document["model"]["diffusion"]["config"]
        return int(math.prod(network.get("factors", ())) * network.get("patch_size", 1))

    def cut_to(self, latents: int) -> "Configuration":
        """The same model with a window of so many latents, of which no weight knows."""
        return Configuration({**self.document, "sample_size": latents * self.downsampling_ratio})

    @property
    def latent_channels(self) -> int:
        return int(_at(self.document, "model.io_channels"))

    @property
    def cond_dim(self) -> int:
        return int(_at(self.document, "model.conditioning.cond_dim"))

    @property
    def text(self) -> TextCondition:
        entry = next(c for c in self._conditions if c["id"] == PROMPT)
        config, project = entry["config"], bool(entry["config"].get("project_out", False))
        if entry["type"] == T5:
            return TextCondition(PROMPT, T5, config["t5_model_name"], int(config.get("max_length", 128)), project)
        layer = int(config.get("feature_layer_ix", -1)) if config.get("use_text_features", False) else None
        return TextCondition(PROMPT, CLAP_TEXT, CLAP_TEXT, CLAP_TOKENS, project, layer)

    @property
    def seconds_max(self) -> float:
        """The longest seconds_total that the number conditions can tell apart, in seconds."""
        return min(float(c["config"]["max_val"]) for c in self._conditions if c["id"] in SECONDS)

    @property
    def seconds(self) -> tuple[str, ...]:
        """Which of `SECONDS` the model is told."""
        told = {c["id"] for c in self._conditions}
        return tuple(name for name in SECONDS if name in told)

    @property
    def objective(self) -> Objective:
        """What the model was trained to predict."""
        return OBJECTIVES[self.document["model"]["diffusion"].get("diffusion_objective", V)]

    @property
    def has_unet(self) -> bool:
        """Whether a U-Net denoises, not a transformer."""
        return bool(_at(self.document, "model.diffusion.type") == UNET)

    @property
    def guidance_scale(self) -> float:
        """What takes effect where a request for audio names none."""
        return stable_audio_1.GUIDANCE_SCALE if self.has_unet else self.objective.guidance_scale

    @property
    def guidance_rescale(self) -> float:
        """The same of the rescaling of what guidance makes."""
        return stable_audio_1.GUIDANCE_RESCALE if self.has_unet else 0.0

    @property
    def timestep_shift(self) -> TimestepShift | None:
        """How the timesteps that are drawn are moved towards noise; None where they stay."""
        options = self.document["model"]["diffusion"].get("distribution_shift_options")
        return TimestepShift(**options) if options else None

    @property
    def masks(self) -> Masks | None:
        """How masks are drawn in training; None for a model that takes none."""
        if self.document["model_type"] != INPAINTING:
            return None
        given, drawn = _optional(self.document, _MASKS) or {}, Masks()
        probabilities = given.get("mask_type_probabilities", drawn.probabilities)
        return Masks(given.get("max_mask_segments", drawn.max_segments), tuple(probabilities))

    @property
    def _conditions(self) -> list[dict[str, Any]]:
        return list(_at(self.document, "model.conditioning.configs"))


def read(data: bytes) -> Configuration:
    """The configuration in a JSON file's bytes; ConfigurationError when it is no JSON or not a known one."""
    if len(data) > MAX_CONFIGURATION_BYTES:
        raise ConfigurationError([("(document)", f"must be at most {MAX_CONFIGURATION_BYTES} bytes, got {len(data)}")])
    try:
        return check(read_json(data, max_bytes=MAX_CONFIGURATION_BYTES, max_depth=MAX_CONFIGURATION_DEPTH))
    except ValueError as error:
        raise ConfigurationError([("(document)", f"must be JSON: {error}"[:200])]) from None


def packaged(name: str = STABLE_AUDIO_OPEN) -> Configuration:
    """A configuration that ships with this library."""
    return read(resources.files("luthier_model").joinpath("configs", f"{name}.json").read_bytes())


def check(document: Any) -> Configuration:
    """The configuration, or ConfigurationError naming every field that is missing, unknown or out of bounds."""
    if not isinstance(document, dict):
        raise ConfigurationError([("(document)", "must be a JSON object")])
    if missing := unsupported.missing_parts(document):
        text = f"is {unsupported.FAMILY}'s, which is not built here: {'; '.join(missing)} are missing"
        raise ConfigurationError([("model", text)])
    present = dict(_leaves(document))
    required, optional = _rules(document)
    found = [(path, "is missing") for path in required if path not in present]
    rules = {**required, **optional}
    for path, value in present.items():
        if path in rules:
            found += _problems(path, rules[path], value)
        elif path not in conditions.LISTS:
            found.append((path, "is not a field of a model that Luthier knows"))
    if not found:
        inpainting = document["model_type"] == INPAINTING
        found = conditions.violations(document["model"], inpainting=inpainting)
        found += _mask_violations(document) if inpainting else []
    found = found or _disagreements(Configuration(document))
    if found:
        raise ConfigurationError(found)
    return Configuration(document)


REQUIRED: Final[Mapping[str, Rule]] = {
    "model_type": Choice(("diffusion_cond", INPAINTING)),
    "sample_size": Integer(1, 1 << 25),
    "sample_rate": Integer(8000, 96000),
    "audio_channels": Integer(1, 2),
    "model.io_channels": Integer(1, 1024),
    "model.pretransform.type": Choice(("autoencoder",)),
    f"{_AUTOENCODER}.encoder.type": Choice((OOBLECK, DAC)),
    f"{_AUTOENCODER}.decoder.type": Choice((OOBLECK, DAC)),
    f"{_AUTOENCODER}.bottleneck.type": Choice(("vae",)),
    f"{_AUTOENCODER}.latent_dim": Integer(1, 1024),
    f"{_AUTOENCODER}.downsampling_ratio": Integer(2, 1 << 16),
    f"{_AUTOENCODER}.io_channels": Integer(1, 2),
    "model.conditioning.cond_dim": Integer(8, 8192),
    "model.diffusion.type": Choice((TRANSFORMER, UNET)),
}
OPTIONAL: Final[Mapping[str, Rule]] = {
    "model.pretransform.iterate_batch": BOOL,
    "model.pretransform.chunked": BOOL,
    "model.pretransform.model_half": BOOL,  # read, not followed: the autoencoder is float32 here
    "model.pretransform.scale": Real(1e-3, 1e3),
    **{f"{_AUTOENCODER}.{side}.requires_grad": BOOL for side in ("encoder", "decoder")},  # it is never trained here
    _OBJECTIVE: Choice(tuple(OBJECTIVES)),
    f"{_SHIFT}.base_shift": Real(-5, 5),
    f"{_SHIFT}.max_shift": Real(-5, 5),
    f"{_SHIFT}.min_length": Integer(1, MAX_WINDOW_LATENTS),
    f"{_SHIFT}.max_length": Integer(2, MAX_WINDOW_LATENTS),
    f"{_SHIFT}.use_sine": BOOL,
}
"""Fields of every model. One of `model` that is in no table is refused, so that nothing takes effect unseen."""
TRANSFORMER_REQUIRED: Final[Mapping[str, Rule]] = {
    f"{_DIT}.io_channels": Integer(1, 1024),
    f"{_DIT}.embed_dim": Integer(8, 8192),
    f"{_DIT}.depth": Integer(1, 96),
    f"{_DIT}.num_heads": Integer(1, 128),
    f"{_DIT}.cond_token_dim": Integer(8, 8192),
}
TRANSFORMER_OPTIONAL: Final[Mapping[str, Rule]] = {
    f"{_DIT}.global_cond_dim": Integer(0, 16384),
    f"{_DIT}.prepend_cond_dim": Integer(0, 8192),
    f"{_DIT}.input_concat_dim": Integer(0, 1025),
    f"{_DIT}.attn_kwargs.qk_norm": Choice(("none", "l2", "ln", "dyt")),
    f"{_DIT}.patch_size": Choice((1,)),
    f"{_DIT}.project_cond_tokens": BOOL,
    f"{_DIT}.project_global_cond": BOOL,
    f"{_DIT}.transformer_type": Choice(("continuous_transformer",)),
    f"{_DIT}.global_cond_type": Choice(("prepend", "adaLN")),
    f"{_DIT}.use_sinusoidal_emb": BOOL,
    f"{_DIT}.num_memory_tokens": Integer(0, 256),
}
SIDES: Final = ("encoder", "decoder")
"""Of an autoencoder."""


def _rules(document: Mapping[str, Any]) -> tuple[dict[str, Rule], dict[str, Rule]]:
    """The fields that a document must and may have, by the types of its parts; of a type that is not known, the
    fields of Stable Audio Open's.
    """
    required, optional = dict(REQUIRED), dict(OPTIONAL)
    if _optional(document, "model.diffusion.type") == UNET:
        required |= stable_audio_1.UNET_REQUIRED
        optional |= stable_audio_1.UNET_OPTIONAL
    else:
        required |= TRANSFORMER_REQUIRED
        optional |= TRANSFORMER_OPTIONAL
    for side in SIDES:
        config = f"{_AUTOENCODER}.{side}.config"
        if _optional(document, f"{_AUTOENCODER}.{side}.type") == DAC:
            required |= stable_audio_1.dac_fields(side, config)
            continue
        required |= {
            f"{config}.{'in' if side == 'encoder' else 'out'}_channels": Integer(1, 2),
            f"{config}.latent_dim": Integer(2, 2048) if side == "encoder" else Integer(1, 1024),
            f"{config}.channels": Integer(1, 512),
            f"{config}.c_mults": Integers(1, 64, 8),
            f"{config}.strides": Integers(1, 32, 8),
        }
        optional |= {f"{config}.use_snake": BOOL, f"{config}.antialias_activation": Choice((False,))}
        if side == "decoder":
            optional |= {f"{config}.final_tanh": BOOL, f"{config}.use_nearest_upsample": BOOL}
    return required, optional


UNREAD: Final = ("training", "model_name")
"""Top-level fields that say nothing about the model: kept, not read, but for how masks are drawn."""


def _leaves(node: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that is not an object, without the fields that say nothing about the model."""
    for name, value in node.items():
        path = f"{at}.{name}" if at else str(name)
        if path in UNREAD:
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _at(document: Mapping[str, Any], path: str) -> Any:
    node: Any = document
    for name in path.split("."):
        node = node[name]
    return node


def _optional(document: Any, path: str) -> Any:
    """What a path leads to; None where it leads nowhere."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _problems(path: str, rule: Rule, value: Any) -> list[Violation]:
    problem = rule.problem(value)
    return [(path, problem)] if problem else []


def _mask_violations(document: Mapping[str, Any]) -> list[Violation]:
    given = _optional(document, _MASKS)
    if given is None:
        return []
    if not isinstance(given, dict):
        return [(_MASKS, "must be an object")]
    rules: dict[str, Rule] = {"max_mask_segments": Integer(1, MAX_MASK_SEGMENTS), "mask_type_probabilities": Shares(3)}
    found = [(f"{_MASKS}.{name}", "is not a known field") for name in given if name not in rules]
    for name, rule in rules.items():
        found += _problems(f"{_MASKS}.{name}", rule, given[name]) if name in given else []
    return found


def _disagreements(c: Configuration) -> list[Violation]:
    """Where two fields say the same thing differently: (the field to mend, what it must be)."""
    autoencoder, shift = _at(c.document, _AUTOENCODER), c.timestep_shift
    encoder, decoder = autoencoder["encoder"]["config"], autoencoder["decoder"]["config"]
    ratio, latent_dim = autoencoder["downsampling_ratio"], autoencoder["latent_dim"]
    at_encoder, at_decoder = f"{_AUTOENCODER}.encoder.config", f"{_AUTOENCODER}.decoder.config"
    rules = [
        (
            shift is None or shift.min_length < shift.max_length,
            f"{_SHIFT}.max_length",
            "must be above min_length",
        ),
        (latent_dim == c.latent_channels, f"{_AUTOENCODER}.latent_dim", "must equal model.io_channels"),
        (encoder["latent_dim"] == 2 * latent_dim, f"{at_encoder}.latent_dim", "must be twice latent_dim"),
        (decoder["latent_dim"] == latent_dim, f"{at_decoder}.latent_dim", "must equal latent_dim"),
        (autoencoder["io_channels"] == c.channels, f"{_AUTOENCODER}.io_channels", "must equal audio_channels"),
        (encoder["in_channels"] == c.channels, f"{at_encoder}.in_channels", "must equal audio_channels"),
        (decoder["out_channels"] == c.channels, f"{at_decoder}.out_channels", "must equal audio_channels"),
        (c.window_samples % ratio == 0, "sample_size", f"must be a multiple of downsampling_ratio {ratio}"),
        (
            1 <= c.window_samples // ratio <= MAX_WINDOW_LATENTS,
            "sample_size",
            f"must hold 1 to {MAX_WINDOW_LATENTS} latents",
        ),
    ]
    found = [(field, what) for good, field, what in rules if not good]
    for side, at, fields in (("encoder", at_encoder, encoder), ("decoder", at_decoder, decoder)):
        if autoencoder[side]["type"] == DAC:
            found += stable_audio_1.dac_disagreements(side, at, fields, ratio)
            continue
        if len(fields["strides"]) != len(fields["c_mults"]):
            found.append((f"{at}.strides", "must be as many as c_mults"))
        if math.prod(fields["strides"]) != ratio:
            found.append((f"{at}.strides", f"must multiply to {ratio}"))
    if c.has_unet:
        crossing = conditions.ids_of(c.document["model"], conditions.CROSS)
        tokens = sum(c.text.states if name == PROMPT else 1 for name in crossing)
        inpainting = c.masks is not None
        return found + stable_audio_1.unet_disagreements(c.document, tokens, c.window_latents, inpainting=inpainting)
    return found + _transformer_disagreements(c)


def _transformer_disagreements(c: Configuration) -> list[Violation]:
    dit, model = _at(c.document, _DIT), c.document["model"]
    width, heads = dit["embed_dim"], dit["num_heads"]
    cond_width = width if dit.get("project_cond_tokens", True) else dit["cond_token_dim"]
    whole, before = (conditions.ids_of(model, each) for each in (conditions.GLOBAL, conditions.PREPEND))
    beside = 1 + c.latent_channels if c.masks else 0
    rules = [
        (width % heads == 0, f"{_DIT}.num_heads", f"must divide embed_dim {width}, got {heads}"),
        (width // heads >= MIN_HEAD_WIDTH, f"{_DIT}.num_heads", f"must leave heads at least {MIN_HEAD_WIDTH} wide"),
        (cond_width % max(width // heads, 1) == 0, f"{_DIT}.cond_token_dim", "must hold whole heads"),
        (dit["io_channels"] == c.latent_channels, f"{_DIT}.io_channels", "must equal model.io_channels"),
        (dit["cond_token_dim"] == c.cond_dim, f"{_DIT}.cond_token_dim", "must equal model.conditioning.cond_dim"),
        (
            dit.get("global_cond_dim", 0) == len(whole) * c.cond_dim,
            f"{_DIT}.global_cond_dim",
            f"must be {len(whole)} times conditioning.cond_dim, once for each id in global_cond_ids",
        ),
        (
            dit.get("prepend_cond_dim", 0) == bool(before) * c.cond_dim,
            f"{_DIT}.prepend_cond_dim",
            "must equal conditioning.cond_dim" if before else "must be 0, or absent, without prepend_cond_ids",
        ),
        (
            dit.get("input_concat_dim", 0) == beside,
            f"{_DIT}.input_concat_dim",
            f"must be {beside}"
            + (": a mask and the latents that it keeps" if beside else f" in a {c.document['model_type']}"),
        ),
    ]
    return [(field, what) for good, field, what in rules if not good]
