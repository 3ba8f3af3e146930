"""The module that a configuration describes: stable-audio-tools' own classes, with random weights or none.

The text encoder is no part of a checkpoint (the library keeps it outside the module's parameters), so what is built
here holds only its projection, if it has one.
"""

import copy
import math
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import torch

from luthier_model import clap_text, descript
from luthier_model.conditions import CLAP_TEXT, SECONDS, SECONDS_START
from luthier_model.configuration import Configuration
from luthier_model.errors import TextEncoderMismatch
from luthier_model.library import (
    ConditionedDiffusionModelWrapper,
    Conditioner,
    IntConditioner,
    UNetCFG1DWrapper,
    create_diffusion_cond_from_config,
)

if find_spec("dac") is None:  # descript-audio-codec, from which the library takes the parts of an autoencoder `dac`
    sys.modules |= {"dac": ModuleType("dac"), "dac.model": ModuleType("dac.model"), "dac.model.dac": descript}

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
    if configuration.text.type == CLAP_TEXT:
        return clap_text.JOINT_WIDTH if configuration.text.layer is None else clap_text.WIDTH
    if name == LOCAL:
        return configuration.cond_dim
    if name not in T5_WIDTHS:
        known = ", ".join([LOCAL, *T5_WIDTHS])
        raise TextEncoderMismatch(f"t5_model_name must be one of {known}, got {name[:80]!r}")
    return T5_WIDTHS[name]


class WholeSeconds(IntConditioner):  # type: ignore[misc]
    """The library's conditioner of whole seconds, which takes any number: a sound begins in the second that has begun,
    and lasts for the seconds that it needs. So the library's own data sets are told.
    """

    def __init__(self, original: IntConditioner, condition: str) -> None:
        super().__init__(original.output_dim, original.min_val, original.max_val)
        self.int_embedder, self._whole = original.int_embedder, math.floor if condition == SECONDS_START else math.ceil

    def forward(self, ints: list[float], device: torch.device | str | None = None) -> list[torch.Tensor]:
        """(batch, 1, output_dim), and ones (batch, 1)."""
        made: list[torch.Tensor] = super().forward([self._whole(seconds) for seconds in ints], device)
        return made


def skeleton(configuration: Configuration, device: str = "meta") -> ConditionedDiffusionModelWrapper:
    """The whole model without its text encoder; on "meta" nothing is allocated, elsewhere weights are random."""
    document = copy.deepcopy(dict(configuration.document))
    conditioning: dict[str, Any] = document["model"]["conditioning"]
    text = configuration.text
    conditioning["configs"] = [c for c in conditioning["configs"] if c["id"] != text.id]
    document["model"]["pretransform"]["model_half"] = False  # audible, and slow on a CPU
    width = text_width(configuration)
    with torch.device(device):
        model = create_diffusion_cond_from_config(document)
        conditioners = model.conditioner.conditioners
        conditioners[text.id] = Conditioner(width, configuration.cond_dim, text.project_out)
        for name in SECONDS:
            if name in conditioners and isinstance(conditioners[name], IntConditioner):
                conditioners[name] = WholeSeconds(conditioners[name], name)
    return model.eval()


def shapes(configuration: Configuration) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that an unwrapped checkpoint of this configuration holds."""
    return shapes_of(skeleton(configuration))


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """The same of a model that is there, perhaps on the meta device."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def random_model(configuration: Configuration, seed: int) -> ConditionedDiffusionModelWrapper:
    """The model on the CPU with the library's own initialisation, for tests and for making a new model.

    Leaves torch's generator as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return skeleton(configuration, "cpu")


def without_conditions(network: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """What the library has a transformer or a U-Net (`model.model`) hear in place of tokens (batch, tokens, width) that
    are dropped in training or that guidance goes without: zeros; of a U-Net what it learned for them.
    """
    if isinstance(network, UNetCFG1DWrapper):
        learned: torch.Tensor = network.model.fixed_embedding(tokens)
        return learned
    return torch.zeros_like(tokens)
