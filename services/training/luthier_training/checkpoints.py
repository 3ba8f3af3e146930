"""Where a killed run goes on: trained weights, moving average and optimiser state in one safetensors file.

No pickle: tensors by name (`weights.…`, `average.…`, `optimizer.<parameter>.<moment>`), the numbers as JSON
in the file's metadata. What is frozen is not in it and comes from the base: autoencoder and text encoder, and with an
adapter all but the adapter.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ema_pytorch import EMA
from safetensors import safe_open
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier.training.v1.training_pb2 import LossPoint
from luthier_kit.bounded_json import read_json
from luthier_model import checkpoint
from luthier_model.errors import CheckpointError
from luthier_training.adapters import AdapterInTraining
from luthier_training.gradients import Gradients
from luthier_training.snapshots import Buffers, Snapshot

FROZEN = "pretransform."
WEIGHTS, AVERAGE, OPTIMIZER = "weights.", "average.", "optimizer."
DATASET = "dataset."
"""Before the number of a data set, in the names of the losses on it."""
MAX_NUMBERS_BYTES, MAX_NUMBERS_DEPTH, MAX_NUMBERS = 64 << 20, 3, 4_000_000
"""Of the numbers as JSON: a million steps, each validated, and the lists that pair steps with losses."""
NAMED = 3
"""Tensors that an error names."""


@dataclass
class Progress:
    """The numbers of a run: optimiser steps done, and the losses on the way; validation losses also of each of several
    data sets, by its number.
    """

    step: int = 0
    training: list[LossPoint] = field(default_factory=list)
    validation: list[LossPoint] = field(default_factory=list)
    by_dataset: dict[int, list[LossPoint]] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What training changes; `average` is the moving average of the transformer or of the adapter, None without one.

    With an `adapter` it alone is trained.
    """

    model: ConditionedDiffusionModelWrapper
    average: EMA | None
    optimizer: torch.optim.Optimizer
    gradients: Gradients
    adapter: AdapterInTraining | None = None
    buffers: Buffers = field(default_factory=Buffers)

    @contextmanager
    def network(self) -> Iterator[torch.nn.Module]:
        """The transformer as it would be exported now: the moving average of it, where one has begun."""
        average = self.average if self.average is not None and int(self.average.step) > 0 else None
        if self.adapter:
            with self.adapter.holding(average):
                yield self.model.model
        else:
            yield self.model.model if average is None else average.ema_model

    def reserve(self) -> None:
        """Takes the memory that snapshots are copied to."""
        weights = ((name, tuple(tensor.shape)) for name, tensor in self._weights_and_average())
        self.buffers.reserve([*weights, *self._moments()])

    def snapshot(self, progress: Progress) -> Snapshot:
        """A checkpoint as it is now, to be written before the next one is taken."""
        state = dict(self._weights_and_average())
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"{OPTIMIZER}{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        losses = {"training": progress.training, "validation": progress.validation}
        losses |= {f"{DATASET}{number}": points for number, points in progress.by_dataset.items()}
        pairs = {name: [(point.step, point.loss) for point in points] for name, points in losses.items()}
        return Snapshot(self.buffers.copy(state.items()), json.dumps({"step": progress.step, **pairs}))

    def restore(self, path: Path, *, other_run: bool = False) -> Progress:
        """Puts weights, moving average and moments back where they were; returns the numbers of the checkpoint.

        Of another run the moving average may be missing, then it begins here, or be there where none is kept here.
        CheckpointError when the file is none, is not of this model, or says what cannot be: then nothing was changed.
        """
        found = {name: tensor.shape for name, tensor in checkpoint.header(path).items()}
        wanted = {name: tuple(tensor.shape) for name, tensor in self._weights_and_average()} | dict(self._moments())
        if other_run and self.average is None:
            found = {name: shape for name, shape in found.items() if not name.startswith(AVERAGE)}
        if other_run and not any(name.startswith(AVERAGE) for name in found):
            wanted = {name: shape for name, shape in wanted.items() if not name.startswith(AVERAGE)}
        if wrong := sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name)):
            text = f"{len(wrong)} tensors are not those of the model that is trained, such as {wrong[:NAMED]}"
            raise CheckpointError(text[:300])
        with safe_open(path, "pt") as file:
            progress = _progress((file.metadata() or {}).get("progress", ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary

        def below(prefix: str) -> dict[str, torch.Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        if self.adapter:
            self.adapter.weights.load_state_dict(below(WEIGHTS), strict=True)
        else:
            frozen = {name: tensor for name, tensor in self.model.state_dict().items() if name.startswith(FROZEN)}
            self.model.load_state_dict({**frozen, **below(WEIGHTS)}, strict=True)
        if self.average is not None and below(AVERAGE):
            self.average.load_state_dict(below(AVERAGE), strict=True)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in below(OPTIMIZER).items():
            index, moment = name.split(".", 1)
            moments.setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        return progress

    def exported(self) -> dict[str, torch.Tensor]:
        """The unwrapped state, with the moving average of the transformer where there is one. Not of an adapter."""
        state = dict(self.model.state_dict())
        if self.average is not None:
            state |= {f"model.{name}": tensor for name, tensor in self.average.ema_model.state_dict().items()}
        return state

    def _weights_and_average(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Names and tensors of a checkpoint, but the optimiser's."""
        trained = self.adapter.weights if self.adapter else self.model
        for name, tensor in trained.state_dict().items():
            if not name.startswith(FROZEN):
                yield f"{WEIGHTS}{name}", tensor
        if self.average is not None:
            for name, tensor in self.average.state_dict().items():
                yield f"{AVERAGE}{name}", tensor

    def _moments(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of what AdamW knows of each parameter after a step."""
        parameters = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
        for index, parameter in enumerate(parameters):
            yield f"{OPTIMIZER}{index}.step", ()
            yield f"{OPTIMIZER}{index}.exp_avg", tuple(parameter.shape)
            yield f"{OPTIMIZER}{index}.exp_avg_sq", tuple(parameter.shape)


def _progress(text: str) -> Progress:
    """The numbers in a checkpoint's metadata; CheckpointError when they are none, or cannot be a run's."""
    try:
        numbers = read_json(
            text.encode(), max_bytes=MAX_NUMBERS_BYTES, max_depth=MAX_NUMBERS_DEPTH, max_values=MAX_NUMBERS
        )
        training, validation = (_points(numbers[name]) for name in ("training", "validation"))
        named = {name.removeprefix(DATASET): points for name, points in numbers.items() if name.startswith(DATASET)}
        by_dataset = {int(number): _points(points) for number, points in named.items()}
        step = LossPoint(step=numbers["step"]).step
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CheckpointError(f"its numbers cannot be read: {error!r}"[:300]) from None
    steps = [[point.step for point in points] for points in (training, validation, *by_dataset.values())]
    if step < 1 or any(each != sorted(set(each)) or not 0 <= each[0] <= each[-1] <= step for each in steps if each):
        raise CheckpointError(f"its numbers are not those of a run after {step} steps")
    return Progress(step, training, validation, by_dataset)


def _points(pairs: Any) -> list[LossPoint]:
    return [LossPoint(step=step, loss=loss) for step, loss in pairs]
