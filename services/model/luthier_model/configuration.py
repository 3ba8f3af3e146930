"""A model configuration, checked before anything is built from it.

The document is stable-audio-tools' `model_config.json`, kept as it is. Known is the family of Stable Audio Open: a
conditioned latent diffusion transformer (`dit`) over an Oobleck variational autoencoder, conditioned by one T5 prompt
and by numbers of seconds. Whatever else the library could build is refused: some of it unpickles files or fetches from
the network.

Units: samples at `sample_rate_hz`; a latent is `downsampling_ratio` samples.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from luthier_kit.bounded_json import read_json
from luthier_model.errors import ConfigurationError

STABLE_AUDIO_OPEN: Final = "stable-audio-open-1.0"
TINY, SMALL = "tiny", "small"  # trained on any CPU
MAX_CONFIGURATION_BYTES: Final = 1 << 20
MAX_CONFIGURATION_DEPTH: Final = 32
MIN_HEAD_WIDTH: Final = 32  # narrower attention heads break the library's rotary embedding
MAX_WINDOW_LATENTS: Final = 1 << 15
MAX_CONDITIONS: Final = 16
PROMPT: Final = "prompt"
SECONDS: Final = ("seconds_start", "seconds_total")

_DIT, _AUTOENCODER = "model.diffusion.config", "model.pretransform.config"

Violation = tuple[str, str]  # path of a field, what it must be


@dataclass(frozen=True)
class TextCondition:
    """The T5 encoder behind the prompt: its name in the configuration and how many tokens it reads."""

    id: str
    encoder: str
    max_tokens: int
    project_out: bool


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
    def latent_channels(self) -> int:
        return int(_at(self.document, "model.io_channels"))

    @property
    def cond_dim(self) -> int:
        return int(_at(self.document, "model.conditioning.cond_dim"))

    @property
    def text(self) -> TextCondition:
        entry = next(c for c in self._conditions if c["type"] == "t5")
        config = entry["config"]
        project = bool(config.get("project_out", False))
        return TextCondition(entry["id"], config["t5_model_name"], int(config.get("max_length", 128)), project)

    @property
    def seconds_max(self) -> float:
        """The longest seconds_total that the number conditions can tell apart, in seconds."""
        return min(float(c["config"]["max_val"]) for c in self._conditions if c["id"] in SECONDS)

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
    present = dict(_leaves(document))
    found = [(path, "is missing") for path in REQUIRED if path not in present]
    rules = {**REQUIRED, **OPTIONAL}
    for path, value in present.items():
        if path in rules:
            found += _problems(path, rules[path], value)
        elif path not in CONDITION_LISTS:
            found.append((path, "is not a field of a model that Luthier knows"))
    found = found or _condition_violations(document["model"]) or _disagreements(Configuration(document))
    if found:
        raise ConfigurationError(found)
    return Configuration(document)


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high]."""

    low: int
    high: int

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        return f"must be a whole number between {self.low} and {self.high}, got {value!r}"[:200]


@dataclass(frozen=True)
class Real:
    """A finite number in [low, high]."""

    low: float
    high: float

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and self.low <= value <= self.high:  # NaN is not; a whole number may be too large for a float
            return None
        return f"must be a number between {self.low} and {self.high}, got {value!r}"[:200]


@dataclass(frozen=True)
class Choice:
    """One of the named values; True is not 1."""

    values: tuple[Any, ...]

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        if any(value == allowed and type(value) is type(allowed) for allowed in self.values):
            return None
        return f"must be one of {', '.join(map(repr, self.values))}, got {value!r}"[:300]


@dataclass(frozen=True)
class Integers:
    """A list of 1 to `longest` whole numbers, each in [low, high]."""

    low: int
    high: int
    longest: int

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        each = Integer(self.low, self.high)
        if isinstance(value, list) and 0 < len(value) <= self.longest and not any(map(each.problem, value)):
            return None
        return f"must be 1 to {self.longest} whole numbers between {self.low} and {self.high}, got {value!r}"[:200]


Rule = Integer | Real | Choice | Integers
BOOL: Final = Choice((True, False))

REQUIRED: Final[Mapping[str, Rule]] = {
    "model_type": Choice(("diffusion_cond",)),
    "sample_size": Integer(1, 1 << 25),
    "sample_rate": Integer(8000, 96000),
    "audio_channels": Integer(1, 2),
    "model.io_channels": Integer(1, 1024),
    "model.pretransform.type": Choice(("autoencoder",)),
    f"{_AUTOENCODER}.encoder.type": Choice(("oobleck",)),
    f"{_AUTOENCODER}.decoder.type": Choice(("oobleck",)),
    f"{_AUTOENCODER}.bottleneck.type": Choice(("vae",)),
    f"{_AUTOENCODER}.latent_dim": Integer(1, 1024),
    f"{_AUTOENCODER}.downsampling_ratio": Integer(2, 1 << 16),
    f"{_AUTOENCODER}.io_channels": Integer(1, 2),
    f"{_AUTOENCODER}.encoder.config.in_channels": Integer(1, 2),
    f"{_AUTOENCODER}.encoder.config.latent_dim": Integer(2, 2048),
    f"{_AUTOENCODER}.decoder.config.out_channels": Integer(1, 2),
    f"{_AUTOENCODER}.decoder.config.latent_dim": Integer(1, 1024),
    **{f"{_AUTOENCODER}.{side}.config.channels": Integer(1, 512) for side in ("encoder", "decoder")},
    **{f"{_AUTOENCODER}.{side}.config.c_mults": Integers(1, 64, 8) for side in ("encoder", "decoder")},
    **{f"{_AUTOENCODER}.{side}.config.strides": Integers(1, 32, 8) for side in ("encoder", "decoder")},
    "model.conditioning.cond_dim": Integer(8, 8192),
    "model.diffusion.type": Choice(("dit",)),
    f"{_DIT}.io_channels": Integer(1, 1024),
    f"{_DIT}.embed_dim": Integer(8, 8192),
    f"{_DIT}.depth": Integer(1, 96),
    f"{_DIT}.num_heads": Integer(1, 128),
    f"{_DIT}.cond_token_dim": Integer(8, 8192),
    f"{_DIT}.global_cond_dim": Integer(8, 16384),
}
OPTIONAL: Final[Mapping[str, Rule]] = {
    "model.pretransform.iterate_batch": BOOL,
    "model.pretransform.chunked": BOOL,
    "model.pretransform.model_half": Choice((False,)),
    "model.pretransform.scale": Real(1e-3, 1e3),
    **{f"{_AUTOENCODER}.{side}.config.use_snake": BOOL for side in ("encoder", "decoder")},
    **{f"{_AUTOENCODER}.{side}.config.antialias_activation": Choice((False,)) for side in ("encoder", "decoder")},
    f"{_AUTOENCODER}.decoder.config.final_tanh": BOOL,
    f"{_AUTOENCODER}.decoder.config.use_nearest_upsample": BOOL,
    "model.diffusion.diffusion_objective": Choice(("v",)),
    f"{_DIT}.patch_size": Choice((1,)),
    f"{_DIT}.project_cond_tokens": BOOL,
    f"{_DIT}.project_global_cond": BOOL,
    f"{_DIT}.transformer_type": Choice(("continuous_transformer",)),
    f"{_DIT}.global_cond_type": Choice(("prepend", "adaLN")),
    f"{_DIT}.use_sinusoidal_emb": BOOL,
    f"{_DIT}.num_memory_tokens": Integer(0, 256),
}
"""Fields that may be left out. A field of `model` in neither table is refused, so that nothing takes effect unseen."""
UNREAD: Final = ("training", "model_name")
"""Top-level fields that say nothing about the model: kept, not read."""
CONDITION_LISTS: Final = (
    "model.conditioning.configs",
    "model.diffusion.cross_attention_cond_ids",
    "model.diffusion.global_cond_ids",
)
"""Lists that `_condition_violations` checks."""


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


def _problems(path: str, rule: Rule, value: Any) -> list[Violation]:
    problem = rule.problem(value)
    return [(path, problem)] if problem else []


def _condition_violations(model: dict[str, Any]) -> list[Violation]:
    """Violations among the conditions of `document["model"]`: one T5 prompt and two numbers, named where they act."""
    conditions, path = model.get("conditioning", {}).get("configs"), "model.conditioning.configs"
    if not isinstance(conditions, list) or not 1 <= len(conditions) <= MAX_CONDITIONS:
        return [(path, f"must be a list of 1 to {MAX_CONDITIONS} conditions")]
    found: list[Violation] = []
    for index, condition in enumerate(conditions):
        found += _one_condition(f"{path}[{index}]", condition)
    if found:
        return found
    types = {condition["id"]: condition["type"] for condition in conditions}
    wanted = {PROMPT: "t5", **dict.fromkeys(SECONDS, "number")}
    if types != wanted or len(conditions) != len(types):
        return [(path, f"must be exactly {wanted}, each once")]
    diffusion = model.get("diffusion", {})
    lists = {"cross_attention_cond_ids": [PROMPT, *SECONDS], "global_cond_ids": list(SECONDS)}
    return [
        (f"model.diffusion.{name}", f"must be {ids}, got {diffusion.get(name)!r}"[:200])
        for name, ids in lists.items()
        if diffusion.get(name) != ids
    ]


def _one_condition(path: str, condition: Any) -> list[Violation]:
    if not isinstance(condition, dict) or not isinstance(condition.get("config"), dict):
        return [(path, "must be an object with id, type and config")]
    kind, config = condition.get("type"), condition["config"]
    if not isinstance(condition.get("id"), str) or set(condition) != {"id", "type", "config"}:
        return [(path, "must have exactly id (a string), type and config")]
    if kind == "t5":
        required, optional = {"t5_model_name"}, {"max_length", "project_out"}
        name = config.get("t5_model_name", "")
        found = _problems(f"{path}.config.max_length", Integer(1, 512), config.get("max_length", 128))
        found += _problems(f"{path}.config.project_out", BOOL, config.get("project_out", False))
        if not (isinstance(name, str) and 0 < len(name) <= 200):
            found.append((f"{path}.config.t5_model_name", "must be a name"))
    elif kind == "number":
        required, optional = {"min_val", "max_val"}, set()
        low, high = config.get("min_val", 0), config.get("max_val", 0)
        found = _problems(f"{path}.config.min_val", Real(0, 1e6), low)
        found += _problems(f"{path}.config.max_val", Real(0, 1e6), high)
        if not found and not low < high:
            found.append((f"{path}.config.max_val", "must be above min_val"))
    else:
        return [(f"{path}.type", f"must be 't5' or 'number', got {kind!r}"[:200])]
    found += [(f"{path}.config.{name}", "is missing") for name in sorted(required - set(config))]
    return found + [(f"{path}.config.{n}", "is not a known field") for n in sorted(set(config) - required - optional)]


def _disagreements(c: Configuration) -> list[Violation]:
    """Where two fields say the same thing differently: (the field to mend, what it must be)."""
    dit, autoencoder = _at(c.document, _DIT), _at(c.document, _AUTOENCODER)
    encoder, decoder = autoencoder["encoder"]["config"], autoencoder["decoder"]["config"]
    width, heads, ratio = dit["embed_dim"], dit["num_heads"], autoencoder["downsampling_ratio"]
    latent_dim = autoencoder["latent_dim"]
    cond_width = width if dit.get("project_cond_tokens", True) else dit["cond_token_dim"]
    at_encoder, at_decoder = f"{_AUTOENCODER}.encoder.config", f"{_AUTOENCODER}.decoder.config"
    rules = [
        (width % heads == 0, f"{_DIT}.num_heads", f"must divide embed_dim {width}, got {heads}"),
        (width // heads >= MIN_HEAD_WIDTH, f"{_DIT}.num_heads", f"must leave heads at least {MIN_HEAD_WIDTH} wide"),
        (cond_width % max(width // heads, 1) == 0, f"{_DIT}.cond_token_dim", "must hold whole heads"),
        (dit["io_channels"] == c.latent_channels, f"{_DIT}.io_channels", "must equal model.io_channels"),
        (dit["cond_token_dim"] == c.cond_dim, f"{_DIT}.cond_token_dim", "must equal model.conditioning.cond_dim"),
        (dit["global_cond_dim"] == 2 * c.cond_dim, f"{_DIT}.global_cond_dim", "must be twice conditioning.cond_dim"),
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
    for at, side in ((at_encoder, encoder), (at_decoder, decoder)):
        rules.append((len(side["strides"]) == len(side["c_mults"]), f"{at}.strides", "must be as many as c_mults"))
        rules.append((math.prod(side["strides"]) == ratio, f"{at}.strides", f"must multiply to {ratio}"))
    return [(field, what) for good, field, what in rules if not good]
