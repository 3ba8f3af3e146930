"""Where a killed run goes on: trained weights, moving average and optimiser state in one safetensors file.

No pickle: tensors by name (`weights.…`, `average.…`, `optimizer.<parameter>.<moment>`), the numbers as JSON
in the file's metadata. The frozen autoencoder and text encoder are not in it; they come from the base.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from luthier_training.tuning import Tuning

FROZEN = "pretransform."
WEIGHTS, AVERAGE, OPTIMIZER = "weights.", "average.", "optimizer."


@dataclass
class Progress:
    """The numbers of a run: optimiser steps done and what was measured, as (step, loss)."""

    step: int = 0
    training: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)


def save(path: Path, tuning: Tuning, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes a checkpoint."""
    state = {f"{WEIGHTS}{name}": t for name, t in tuning.diffusion.state_dict().items() if not name.startswith(FROZEN)}
    if tuning.diffusion_ema is not None:
        state |= {f"{AVERAGE}{name}": t for name, t in tuning.diffusion_ema.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        state |= {f"{OPTIMIZER}{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    numbers = {"step": progress.step, "training": progress.training, "validation": progress.validation}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    save_file(tensors, path, metadata={"format": "pt", "progress": json.dumps(numbers)})


def read_progress(path: Path) -> Progress:
    """The numbers in a checkpoint."""
    with safe_open(path, "pt") as file:
        numbers = json.loads(file.metadata()["progress"])
    pairs = {name: [(int(step), float(loss)) for step, loss in numbers[name]] for name in ("training", "validation")}
    return Progress(int(numbers["step"]), **pairs)


def restore(path: Path, tuning: Tuning, optimizer: torch.optim.Optimizer) -> None:
    """Puts weights, moving average and moments back where they were."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    kept = {name: t for name, t in tuning.diffusion.state_dict().items() if name.startswith(FROZEN)}
    tuning.diffusion.load_state_dict({**kept, **_below(tensors, WEIGHTS)}, strict=True)
    if tuning.diffusion_ema is not None:
        tuning.diffusion_ema.load_state_dict(_below(tensors, AVERAGE), strict=True)
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in _below(tensors, OPTIMIZER).items():
        index, moment = name.split(".", 1)
        moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
