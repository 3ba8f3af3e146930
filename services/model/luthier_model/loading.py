"""From a configuration, weights and a text encoder to a model that can denoise."""

from collections.abc import Sequence
from pathlib import Path

import torch

from luthier_model import adapters, checkpoint, text_encoder
from luthier_model.adapters import Adapter
from luthier_model.configuration import Configuration
from luthier_model.library import ConditionedDiffusionModelWrapper, ScaledSinusoidalEmbedding
from luthier_model.network import shapes_of, skeleton


def load(
    configuration: Configuration,
    weights: Path,
    text: Path | None,
    device: str = "cpu",
    merge: Sequence[Adapter] = (),
) -> ConditionedDiffusionModelWrapper:
    """stable-audio-tools' own model in eval mode on `device`, in float32 whatever the file's precision.

    `weights` is safetensors, wrapped or not; `text` the text encoder's folder; `merge` are adapters that change the
    weights, one after the other. Everything is compared with the configuration first (CheckpointError,
    CheckpointMismatch, AdapterMismatch, TextEncoderError, TextEncoderMismatch), then the file's tensors become the
    parameters, those in float32 without a second copy. AdapterError when an adapter is not finite.
    """
    model = skeleton(configuration)
    layout = checkpoint.layout_of(weights, shapes_of(model))
    text_encoder.check(text, configuration)
    for adapter in merge:
        adapters.check(adapter, model)
    state = {name: tensor.float() for name, tensor in checkpoint.read(weights, layout, device).items()}
    for adapter in merge:
        adapters.merge(adapter, state)
    model.load_state_dict(state, strict=True, assign=True)
    return complete(model, configuration, text, device)


def complete(
    model: ConditionedDiffusionModelWrapper, configuration: Configuration, text: Path | None, device: str = "cpu"
) -> ConditionedDiffusionModelWrapper:
    """A skeleton with weights becomes a model: its text encoder, the constants that no checkpoint holds, eval mode, no
    gradients, every tensor on `device`.
    """
    conditioners, prompt = model.conditioner.conditioners, configuration.text.id
    encoder = text_encoder.conditioner(text, configuration)
    encoder.proj_out = conditioners[prompt].proj_out  # the projection is part of the checkpoint
    conditioners[prompt] = encoder
    for module in model.modules():
        if isinstance(module, ScaledSinusoidalEmbedding) and module.inv_freq.is_meta:
            module.inv_freq = ScaledSinusoidalEmbedding(2 * module.inv_freq.shape[0]).inv_freq
    left = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if left:
        raise RuntimeError(f"tensors without data after loading: {left[:5]}")
    return model.to(torch.device(device)).eval().requires_grad_(False)
