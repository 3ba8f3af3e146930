"""Where a killed run goes on: trained weights, moving average and optimiser state in one safetensors file.

No pickle: tensors by name (`weights.…`, `average.…`, `optimizer.<parameter>.<moment>`), the numbers as JSON
in the file's metadata. The frozen autoencoder and text encoder are not in it; they come from the base.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from ema_pytorch import EMA
from safetensors import safe_open
from safetensors.torch import save_file
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier.training.v1.training_pb2 import LossPoint

FROZEN = "pretransform."
WEIGHTS, AVERAGE, OPTIMIZER = "weights.", "average.", "optimizer."


@dataclass
class Progress:
    """The numbers of a run: optimiser steps done, and the losses on the way."""

    step: int = 0
    training: list[LossPoint] = field(default_factory=list)
    validation: list[LossPoint] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """What training changes; `average` is the moving average of the transformer, None without one.

    `gradient` holds every parameter's gradient as a view, so that ranks exchange one message without a copy of it.
    """

    model: ConditionedDiffusionModelWrapper
    average: EMA | None
    optimizer: torch.optim.Optimizer
    gradient: torch.Tensor

    def save(self, path: Path, progress: Progress) -> None:
        """Writes a checkpoint."""
        state = {f"{WEIGHTS}{k}": t for k, t in self.model.state_dict().items() if not k.startswith(FROZEN)}
        if self.average is not None:
            state |= {f"{AVERAGE}{name}": tensor for name, tensor in self.average.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"{OPTIMIZER}{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        losses = {"training": progress.training, "validation": progress.validation}
        pairs = {name: [(point.step, point.loss) for point in points] for name, points in losses.items()}
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        save_file(tensors, path, metadata={"format": "pt", "progress": json.dumps({"step": progress.step, **pairs})})

    def restore(self, path: Path) -> Progress:
        """Puts weights, moving average and moments back where they were; returns the numbers of the checkpoint."""
        with safe_open(path, "pt") as file:
            numbers = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary

        def below(prefix: str) -> dict[str, torch.Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        frozen = {name: tensor for name, tensor in self.model.state_dict().items() if name.startswith(FROZEN)}
        self.model.load_state_dict({**frozen, **below(WEIGHTS)}, strict=True)
        if self.average is not None:
            self.average.load_state_dict(below(AVERAGE), strict=True)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in below(OPTIMIZER).items():
            index, moment = name.split(".", 1)
            moments.setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        training, validation = (
            [LossPoint(step=step, loss=loss) for step, loss in numbers[name]] for name in ("training", "validation")
        )
        return Progress(int(numbers["step"]), training, validation)

    def exported(self) -> dict[str, torch.Tensor]:
        """The unwrapped state, with the moving average of the transformer where there is one."""
        state = dict(self.model.state_dict())
        if self.average is not None:
            state |= {f"model.{name}": tensor for name, tensor in self.average.ema_model.state_dict().items()}
        return state
