"""The tiny model: stable-audio-tools' own classes and checkpoint layout with a few hundred thousand
parameters.

For machines without a GPU or the gated weights. It proves the way, not the music.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier_model import checkpoint
from luthier_model.configuration import Configuration, check, packaged
from luthier_model.random_weights import random_model
from luthier_model.tiny_text import make_text_encoder

TINY = "tiny"


def configuration(latent_scale: float = 1.0) -> Configuration:
    """The tiny configuration; `latent_scale` divides the autoencoder's latents so that they have unit
    variance.
    """
    document: dict[str, Any] = copy.deepcopy(dict(packaged(TINY).document))
    document["model"]["pretransform"]["scale"] = latent_scale
    return check(document)


def write_random(known: Configuration, prompts: Sequence[str], folder: Path, seed: int) -> tuple[Path, Path]:
    """A model of random weights: writes `weights.safetensors` and `text_encoder/`, and returns their paths."""
    text, weights = folder / "text_encoder", folder / "weights.safetensors"
    make_text_encoder(prompts, known.cond_dim, text, seed)
    checkpoint.write(weights, random_model(known, seed).state_dict(), {"format": "pt"})
    return weights, text
