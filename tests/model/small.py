"""A model that generates in a fraction of a second: the tiny one with a short window."""

import copy
from dataclasses import dataclass
from pathlib import Path

from luthier_model import configuration, tiny
from luthier_model.configuration import Configuration

PROMPTS = ["calm piano in D minor at 90 BPM", "loud drums and bass, funk, 120 BPM"]
WINDOW_LATENTS = 48


@dataclass(frozen=True)
class ModelFiles:
    """The files that make a model."""

    configuration: Configuration
    weights: Path
    text_encoder: Path


def small_model(folder: Path) -> ModelFiles:
    """Writes random weights, the same each time."""
    document = copy.deepcopy(dict(tiny.configuration().document))
    document["sample_size"] = WINDOW_LATENTS * tiny.configuration().downsampling_ratio
    known = configuration.check(document)
    weights, text_encoder = tiny.write_random(known, PROMPTS, folder, seed=1)
    fill_zero_branches(weights)
    return ModelFiles(known, weights, text_encoder)


def fill_zero_branches(weights: Path) -> None:
    """Fills the branches of a file that begin at zero: an untrained model would hear neither prompt nor seconds."""
    import torch  # not before luthier_inference, which says how its threads wait
    from safetensors.torch import load_file, save_file

    generator, state = torch.Generator().manual_seed(2), load_file(weights)
    for name, tensor in state.items():
        if name.startswith("model.") and tensor.dim() > 1 and not tensor.any():
            state[name] = 0.05 * torch.randn(tensor.shape, generator=generator)
    save_file(state, weights, metadata={"format": "pt"})
