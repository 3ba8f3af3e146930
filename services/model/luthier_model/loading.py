"""From a configuration, weights and a text encoder to a model that can denoise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper
from stable_audio_tools.models.transformer import ScaledSinusoidalEmbedding

from luthier_model import checkpoint, text_encoder
from luthier_model.configuration import Configuration, check
from luthier_model.skeleton import skeleton


def load(
    configuration: Configuration | Mapping[str, Any], weights: Path, text: Path | None, device: str = "cpu"
) -> ConditionedDiffusionModelWrapper:
    """The model in eval mode on `device`, float32 as in the file.

    `weights` is safetensors, wrapped or not; `text` the folder of the T5 encoder. Everything is compared with
    the configuration first (ConfigurationError, CheckpointError, CheckpointMismatch, TextEncoderError), then
    the file's tensors become the parameters without a second copy.
    """
    known = configuration if isinstance(configuration, Configuration) else check(dict(configuration))
    placed = checkpoint.verify(weights, known)
    text_encoder.check(text, known)
    model = skeleton(known)
    model.load_state_dict(checkpoint.read(weights, placed, device), strict=True, assign=True)
    add_text_encoder(model, known, text)
    return finish(model, device)


def add_text_encoder(model: ConditionedDiffusionModelWrapper, known: Configuration, text: Path | None) -> None:
    """Puts the T5 conditioner in the place of the skeleton's, keeping its projection."""
    holder = model.conditioner.conditioners
    encoder = text_encoder.conditioner(text, known)
    encoder.proj_out = holder[known.text.id].proj_out
    holder[known.text.id] = encoder


def finish(model: ConditionedDiffusionModelWrapper, device: str) -> ConditionedDiffusionModelWrapper:
    """Eval mode, no gradients, every tensor real and on `device`."""
    _fill_constants(model)
    left = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if left:
        raise RuntimeError(f"tensors without data after loading: {left[:5]}")
    return model.to(torch.device(device)).eval().requires_grad_(False)


def _fill_constants(model: ConditionedDiffusionModelWrapper) -> None:
    """Gives the constants that the library leaves out of checkpoints their values, where they are still
    without.
    """
    for module in model.modules():
        if isinstance(module, ScaledSinusoidalEmbedding) and module.inv_freq.is_meta:
            module.inv_freq = ScaledSinusoidalEmbedding(2 * module.inv_freq.shape[0]).inv_freq
