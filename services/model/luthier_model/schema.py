"""Which model configurations are known, field by field, with bounds.

The layout is stable-audio-tools' own (`model_config.json`). Known is the family of Stable Audio Open: a
conditioned latent diffusion transformer (`dit`) over an Oobleck variational autoencoder, with a T5 prompt and
numbers as conditions. Whatever else the library could build is refused: some of it unpickles files or fetches
from the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DIT, CODEC = "model.diffusion.config", "model.pretransform.config"


@dataclass(frozen=True)
class Whole:
    """A whole number in [low, high]."""

    low: int
    high: int

    def problem(self, value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        return f"must be a whole number between {self.low} and {self.high}, got {value!r}"[:200]


@dataclass(frozen=True)
class Real:
    """A finite number in [low, high]."""

    low: float
    high: float

    def problem(self, value: Any) -> str | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value) and self.low <= value <= self.high:
            return None
        return f"must be a number between {self.low} and {self.high}, got {value!r}"[:200]


@dataclass(frozen=True)
class Choice:
    """One of the named values."""

    names: tuple[Any, ...]

    def problem(self, value: Any) -> str | None:
        known = any(value is name or (value == name and type(value) is type(name)) for name in self.names)
        listed = ", ".join(repr(name) for name in self.names)
        return None if known else f"must be one of {listed}, got {value!r}"[:300]


@dataclass(frozen=True)
class Wholes:
    """A list of whole numbers, each in [low, high], of `1..longest` entries."""

    low: int
    high: int
    longest: int

    def problem(self, value: Any) -> str | None:
        each = Whole(self.low, self.high)
        if isinstance(value, list) and 0 < len(value) <= self.longest and not any(map(each.problem, value)):
            return None
        return f"must be 1 to {self.longest} whole numbers between {self.low} and {self.high}, got {value!r}"[:200]


Rule = Whole | Real | Choice | Wholes
BOOL = Choice((True, False))

REQUIRED: Mapping[str, Rule] = {
    "model_type": Choice(("diffusion_cond",)),
    "sample_size": Whole(1, 1 << 25),
    "sample_rate": Whole(8000, 96000),
    "audio_channels": Whole(1, 2),
    "model.io_channels": Whole(1, 1024),
    "model.pretransform.type": Choice(("autoencoder",)),
    f"{CODEC}.encoder.type": Choice(("oobleck",)),
    f"{CODEC}.decoder.type": Choice(("oobleck",)),
    f"{CODEC}.bottleneck.type": Choice(("vae",)),
    f"{CODEC}.latent_dim": Whole(1, 1024),
    f"{CODEC}.downsampling_ratio": Whole(2, 1 << 16),
    f"{CODEC}.io_channels": Whole(1, 2),
    f"{CODEC}.encoder.config.in_channels": Whole(1, 2),
    f"{CODEC}.encoder.config.latent_dim": Whole(2, 2048),
    f"{CODEC}.decoder.config.out_channels": Whole(1, 2),
    f"{CODEC}.decoder.config.latent_dim": Whole(1, 1024),
    **{f"{CODEC}.{side}.config.channels": Whole(1, 512) for side in ("encoder", "decoder")},
    **{f"{CODEC}.{side}.config.c_mults": Wholes(1, 64, 8) for side in ("encoder", "decoder")},
    **{f"{CODEC}.{side}.config.strides": Wholes(1, 32, 8) for side in ("encoder", "decoder")},
    "model.conditioning.cond_dim": Whole(8, 8192),
    "model.diffusion.type": Choice(("dit",)),
    f"{DIT}.io_channels": Whole(1, 1024),
    f"{DIT}.embed_dim": Whole(8, 8192),
    f"{DIT}.depth": Whole(1, 96),
    f"{DIT}.num_heads": Whole(1, 128),
    f"{DIT}.cond_token_dim": Whole(8, 8192),
    f"{DIT}.global_cond_dim": Whole(8, 16384),
}
OPTIONAL: Mapping[str, Rule] = {
    "model.pretransform.iterate_batch": BOOL,
    "model.pretransform.chunked": BOOL,
    "model.pretransform.model_half": Choice((False,)),
    "model.pretransform.scale": Real(1e-3, 1e3),
    **{f"{CODEC}.{side}.config.use_snake": BOOL for side in ("encoder", "decoder")},
    **{f"{CODEC}.{side}.config.antialias_activation": Choice((False,)) for side in ("encoder", "decoder")},
    f"{CODEC}.decoder.config.final_tanh": BOOL,
    f"{CODEC}.decoder.config.use_nearest_upsample": BOOL,
    "model.diffusion.diffusion_objective": Choice(("v",)),
    f"{DIT}.patch_size": Choice((1,)),
    f"{DIT}.project_cond_tokens": BOOL,
    f"{DIT}.project_global_cond": BOOL,
    f"{DIT}.transformer_type": Choice(("continuous_transformer",)),
    f"{DIT}.global_cond_type": Choice(("prepend", "adaLN")),
    f"{DIT}.use_sinusoidal_emb": BOOL,
    f"{DIT}.num_memory_tokens": Whole(0, 256),
}
"""Fields that may be left out. A field of `model` in neither table is refused, so that nothing takes effect
unseen.
"""
FREE = ("training", "model_name")
"""Top-level fields that say nothing about the model: kept, not read."""
CONDITION_LISTS = (
    "model.conditioning.configs",
    "model.diffusion.cross_attention_cond_ids",
    "model.diffusion.global_cond_ids",
)
"""Lists that `conditions.py` checks."""
