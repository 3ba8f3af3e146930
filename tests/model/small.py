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


def adapter_over(
    files: ModelFiles, base_digest: str, folder: Path, kind: str = "lora", size: float = 0.1, seed: int = 7
) -> Path:
    """Writes an adapter of random weights on the attention of the model, rank 3, alpha 6."""
    import torch
    from safetensors.torch import load_file

    from luthier_model import adapters
    from luthier_model.network import skeleton

    layers = [name for name in adapters.linear_layers(skeleton(files.configuration)) if "_attn." in name]
    state, generator, tensors = load_file(files.weights), torch.Generator().manual_seed(seed), {}
    for layer in layers:
        rows, columns = state[f"{layer}.weight"].shape
        tensors[layer + adapters.A] = torch.randn(3, columns, generator=generator)
        tensors[layer + adapters.B] = size * torch.randn(rows, 3, generator=generator)
        if kind == adapters.DORA:
            lengths = state[f"{layer}.weight"].norm(dim=1)
            tensors[layer + adapters.MAGNITUDE] = lengths * (1 + 0.2 * torch.rand(rows, generator=generator))
    path = folder / f"{kind}-{base_digest[:8]}-{seed}.safetensors"
    adapters.write(path, tensors, kind=kind, rank=3, alpha=6.0, targets=("attention",), base_digest=base_digest)
    return path
