"""Opens what the libraries saved. Their classes come as Any: their own types leave out what is asked for here."""

from pathlib import Path
from typing import Any

import torch

from luthier_baselines.weights import check_loaded


def load(kind: Any, folder: Path) -> Any:
    """A model of a class of transformers or diffusers, float32, from safetensors in this folder alone.

    Raises InvalidRequest WEIGHTS_INVALID where a tensor is missing.
    """
    model, loaded = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    check_loaded(folder, loaded["missing_keys"])
    return model


def assemble(kind: Any, folder: Path, **parts: Any) -> Any:
    """What has no weights of its own, a tokenizer or a pipeline of `parts`, from this folder alone."""
    return kind.from_pretrained(folder, local_files_only=True, **parts)
