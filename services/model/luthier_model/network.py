"""The module that a configuration describes: stable-audio-tools' own classes, with random weights or none.

The T5 encoder is no part of a checkpoint (the library keeps it outside the module's parameters), so what is built here
holds only its projection, if it has one.
"""

import copy
from typing import Any, Final

import torch
from stable_audio_tools.models.conditioners import Conditioner
from stable_audio_tools.models.diffusion import (
    ConditionedDiffusionModelWrapper,
    create_diffusion_cond_from_config,
)

from luthier_model.configuration import Configuration
from luthier_model.errors import TextEncoderMismatch

T5_WIDTHS: Final = {
    "t5-small": 512,
    "t5-base": 768,
    "t5-large": 1024,
    "google/flan-t5-base": 768,
    "google/flan-t5-large": 1024,
}
"""Width of the encoders that configurations name (Raffel 2020, table of sizes)."""
LOCAL: Final = "local"
"""`t5_model_name` of an encoder that comes with its model, as wide as the conditioning."""


def text_width(configuration: Configuration) -> int:
    """Width of the text encoder's embeddings, from its name; TextEncoderMismatch for a name that is not known."""
    name = configuration.text.encoder
    if name == LOCAL:
        return configuration.cond_dim
    if name not in T5_WIDTHS:
        known = ", ".join([LOCAL, *T5_WIDTHS])
        raise TextEncoderMismatch(f"t5_model_name must be one of {known}, got {name[:80]!r}")
    return T5_WIDTHS[name]


def skeleton(configuration: Configuration, device: str = "meta") -> ConditionedDiffusionModelWrapper:
    """The whole model without its T5 encoder; on "meta" nothing is allocated, elsewhere weights are random."""
    document = copy.deepcopy(dict(configuration.document))
    conditioning: dict[str, Any] = document["model"]["conditioning"]
    text = configuration.text
    conditioning["configs"] = [c for c in conditioning["configs"] if c["id"] != text.id]
    document["model"]["pretransform"]["model_half"] = False  # audible, and slow on a CPU
    width = text_width(configuration)
    with torch.device(device):
        model = create_diffusion_cond_from_config(document)
        model.conditioner.conditioners[text.id] = Conditioner(width, configuration.cond_dim, text.project_out)
    return model.eval()


def shapes(configuration: Configuration) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that an unwrapped checkpoint of this configuration holds."""
    return {name: tuple(tensor.shape) for name, tensor in skeleton(configuration).state_dict().items()}


def random_model(configuration: Configuration, seed: int) -> ConditionedDiffusionModelWrapper:
    """The model on the CPU with the library's own initialisation, for tests and for making a new model.

    Leaves torch's generator as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return skeleton(configuration, "cpu")
