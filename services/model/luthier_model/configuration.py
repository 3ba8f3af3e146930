"""A model configuration, checked before anything is built from it.

The document is stable-audio-tools' `model_config.json`, kept as it is; `Configuration` adds the numbers that
the rest of Luthier asks for. Units: samples at `sample_rate_hz`; a latent is `downsampling_ratio` samples.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from luthier_model.conditions import SECONDS, TextCondition, check_conditions
from luthier_model.errors import ConfigurationError
from luthier_model.schema import CODEC, CONDITION_LISTS, DIT, FREE, OPTIONAL, REQUIRED

STABLE_AUDIO_OPEN = "stable-audio-open-1.0"
MAX_DOCUMENT_BYTES = 1 << 20
MIN_HEAD_WIDTH = 32
"""Narrower heads break the library's rotary embedding."""
MAX_WINDOW_LATENTS = 1 << 15


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
        return int(_at(self.document, f"{CODEC}.downsampling_ratio"))

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
    def digest(self) -> str:
        """sha256 of the canonical JSON."""
        text = json.dumps(self.document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def _conditions(self) -> list[dict[str, Any]]:
        return list(_at(self.document, "model.conditioning.configs"))


def check(document: Any) -> Configuration:
    """The configuration, or ConfigurationError naming every field that is missing, unknown or out of bounds."""
    if not isinstance(document, dict):
        raise ConfigurationError([("(document)", "must be a JSON object")])
    found: list[tuple[str, str]] = []
    present = dict(_leaves(document))
    for path in REQUIRED:
        if path not in present:
            found.append((path, "is missing"))
    rules = {**REQUIRED, **OPTIONAL}
    for path, value in present.items():
        if path in rules:
            problem = rules[path].problem(value)
            found += [(path, problem)] if problem else []
        elif path not in CONDITION_LISTS:
            found.append((path, "is not a field of a model that Luthier knows"))
    found = found or check_conditions(document["model"]) or _agreement(Configuration(document))
    if found:
        raise ConfigurationError(found)
    return Configuration(document)


def read(data: bytes) -> Configuration:
    """The configuration in a JSON file's bytes; ConfigurationError when it is no JSON or not a known one."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ConfigurationError([("(document)", f"must be at most {MAX_DOCUMENT_BYTES} bytes, got {len(data)}")])
    try:
        return check(json.loads(data))
    except (ValueError, RecursionError) as e:
        raise ConfigurationError([("(document)", f"must be JSON: {e}"[:200])]) from None


def read_file(path: Path) -> Configuration:
    with path.open("rb") as file:
        return read(file.read(MAX_DOCUMENT_BYTES + 1))


def packaged(name: str = STABLE_AUDIO_OPEN) -> Configuration:
    """A configuration that ships with this library."""
    return read(resources.files("luthier_model").joinpath("configs", f"{name}.json").read_bytes())


def _leaves(node: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that is not an object, without the fields that say nothing about the model."""
    for name, value in node.items():
        path = f"{at}.{name}" if at else str(name)
        if path in FREE:
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


def _agreement(c: Configuration) -> list[tuple[str, str]]:
    """What two fields say of the same thing must agree: (the field to mend, what it must be)."""
    d, dit, codec = c.document, _at(c.document, DIT), _at(c.document, CODEC)
    encoder, decoder = codec["encoder"]["config"], codec["decoder"]["config"]
    heads, ratio = dit["num_heads"], codec["downsampling_ratio"]
    cond_width = dit["embed_dim"] if dit.get("project_cond_tokens", True) else dit["cond_token_dim"]
    rules = [
        (
            dit["embed_dim"] % heads == 0,
            f"{DIT}.num_heads",
            f"must divide embed_dim {dit['embed_dim']}, got {heads}",
        ),
        (
            dit["embed_dim"] // heads >= MIN_HEAD_WIDTH,
            f"{DIT}.num_heads",
            f"must leave heads at least {MIN_HEAD_WIDTH} wide",
        ),
        (
            cond_width % max(dit["embed_dim"] // heads, 1) == 0,
            f"{DIT}.cond_token_dim",
            "must hold whole heads",
        ),
        (dit["io_channels"] == c.latent_channels, f"{DIT}.io_channels", "must equal model.io_channels"),
        (codec["latent_dim"] == c.latent_channels, f"{CODEC}.latent_dim", "must equal model.io_channels"),
        (
            dit["cond_token_dim"] == c.cond_dim,
            f"{DIT}.cond_token_dim",
            "must equal model.conditioning.cond_dim",
        ),
        (
            dit["global_cond_dim"] == 2 * c.cond_dim,
            f"{DIT}.global_cond_dim",
            "must be twice conditioning.cond_dim",
        ),
        (
            encoder["latent_dim"] == 2 * codec["latent_dim"],
            f"{CODEC}.encoder.config.latent_dim",
            "must be twice latent_dim",
        ),
        (
            decoder["latent_dim"] == codec["latent_dim"],
            f"{CODEC}.decoder.config.latent_dim",
            "must equal latent_dim",
        ),
        (codec["io_channels"] == c.channels, f"{CODEC}.io_channels", "must equal audio_channels"),
        (
            encoder["in_channels"] == c.channels,
            f"{CODEC}.encoder.config.in_channels",
            "must equal audio_channels",
        ),
        (
            decoder["out_channels"] == c.channels,
            f"{CODEC}.decoder.config.out_channels",
            "must equal audio_channels",
        ),
        *(
            (
                len(side["strides"]) == len(side["c_mults"]),
                f"{CODEC}.{name}.config.strides",
                "must be as many as c_mults",
            )
            for name, side in (("encoder", encoder), ("decoder", decoder))
        ),
        *(
            (
                math.prod(side["strides"]) == ratio,
                f"{CODEC}.{name}.config.strides",
                f"must multiply to {ratio}",
            )
            for name, side in (("encoder", encoder), ("decoder", decoder))
        ),
        (d["sample_size"] % ratio == 0, "sample_size", f"must be a multiple of downsampling_ratio {ratio}"),
        (
            1 <= d["sample_size"] // ratio <= MAX_WINDOW_LATENTS,
            "sample_size",
            f"must hold 1 to {MAX_WINDOW_LATENTS} latents",
        ),
    ]
    return [(field, what) for good, field, what in rules if not good]
