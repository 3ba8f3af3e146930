"""What training an autoencoder changes, and its checkpoints: both networks, both optimisers' states, the average.

A checkpoint is one safetensors file: tensors by name (`network.…`, `average.…`, `discriminator.…`,
`optimizer.<parameter>.<moment>`, `discriminator_optimizer.…`), the numbers of the run as JSON in its metadata.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ema_pytorch import EMA
from safetensors import safe_open
from stable_audio_tools.models.autoencoders import AudioAutoencoder
from stable_audio_tools.models.discriminators import EncodecDiscriminator
from torch import nn

from luthier.training.v1.training_pb2 import FidelityPoint, LossPoint, TrainAutoencoder, TrainingProgress
from luthier_kit.bounded_json import read_json
from luthier_model import checkpoint
from luthier_model.errors import CheckpointError
from luthier_training.checkpoints import MAX_NUMBERS, MAX_NUMBERS_BYTES, MAX_NUMBERS_DEPTH, NAMED
from luthier_training.optimizer import adamw
from luthier_training.snapshots import Buffers, Snapshot

BETAS, WEIGHT_DECAY = (0.8, 0.99), 1e-3
"""Of both optimisers, as Stable Audio Open's autoencoder was trained."""
AVERAGE_POWER = 3 / 4
"""The moving average's decay is 1 - (1 + step)^-power until it reaches `ema_decay`, as in stable-audio-tools."""


@dataclass
class Progress:
    """The numbers of a run: steps done, losses of autoencoder and discriminator, what validation measured."""

    step: int = 0
    training: list[LossPoint] = field(default_factory=list)
    discriminator: list[LossPoint] = field(default_factory=list)
    validation: list[LossPoint] = field(default_factory=list)
    fidelity: list[FidelityPoint] = field(default_factory=list)

    def publish(self, told: TrainingProgress) -> None:
        """Puts into `told` what a reporter is not given with each step."""
        del told.discriminator[:], told.fidelity[:]
        told.discriminator.extend(self.discriminator)
        told.fidelity.extend(self.fidelity)

    def as_json(self) -> str:
        """The numbers as a checkpoint holds them."""
        losses = {name: getattr(self, name) for name in ("training", "discriminator", "validation")}
        pairs = {name: [(point.step, point.loss) for point in points] for name, points in losses.items()}
        fidelity = [(point.step, point.mel, point.si_sdr_db) for point in self.fidelity]
        return json.dumps({"step": self.step, **pairs, "fidelity": fidelity})

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """CheckpointError when these are no numbers, or cannot be a run's."""
        try:
            numbers = read_json(
                text.encode(), max_bytes=MAX_NUMBERS_BYTES, max_depth=MAX_NUMBERS_DEPTH, max_values=MAX_NUMBERS
            )
            found = cls(
                LossPoint(step=numbers["step"]).step,
                _points(numbers["training"]),
                _points(numbers["discriminator"]),
                _points(numbers["validation"]),
                [FidelityPoint(step=step, mel=mel, si_sdr_db=ratio) for step, mel, ratio in numbers["fidelity"]],
            )
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise CheckpointError(f"its numbers cannot be read: {error!r}"[:300]) from None
        series = (found.training, found.discriminator, found.validation, found.fidelity)
        steps = [[point.step for point in points] for points in series]
        if found.step < 1 or any(
            each != sorted(set(each)) or not 0 <= each[0] <= each[-1] <= found.step for each in steps if each
        ):
            raise CheckpointError(f"its numbers are not those of a run after {found.step} steps")
        return found


@dataclass(frozen=True)
class Learner:
    """A network with its optimiser; `gradient` holds the gradient of every parameter as a view, so that ranks exchange
    one message without a copy of it.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    gradient: torch.Tensor

    @classmethod
    def of(cls, network: nn.Module, learning_rate: float) -> "Learner":
        """All parameters of the network are trained from here on."""
        parameters = list(network.train().requires_grad_(True).parameters())
        gradient = torch.zeros(sum(each.numel() for each in parameters), device=parameters[0].device)
        for parameter, part in zip(parameters, torch.split(gradient, [p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        optimizer = adamw(parameters, learning_rate, BETAS, WEIGHT_DECAY)
        return cls(network, optimizer, gradient)

    def tensors(self, name: str, optimizer: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Names and tensors of a checkpoint; before the first step the optimiser has none."""
        yield from ((f"{name}.{key}", tensor) for key, tensor in self.network.state_dict().items())
        for index, moments in self.optimizer.state_dict()["state"].items():
            yield from ((f"{optimizer}.{index}.{key}", torch.as_tensor(value)) for key, value in moments.items())

    def shapes(self, name: str, optimizer: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the same after a step of AdamW."""
        yield from ((f"{name}.{key}", tuple(tensor.shape)) for key, tensor in self.network.state_dict().items())
        for index, parameter in enumerate(self.network.parameters()):
            yield f"{optimizer}.{index}.step", ()
            for moment in ("exp_avg", "exp_avg_sq"):
                yield f"{optimizer}.{index}.{moment}", tuple(parameter.shape)

    def restore(self, tensors: Mapping[str, torch.Tensor], name: str, optimizer: str) -> None:
        """Puts weights and moments back."""
        self.network.load_state_dict(below(tensors, name), strict=True)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in below(tensors, optimizer).items():
            index, moment = key.split(".", 1)
            moments.setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})


@dataclass(frozen=True)
class Trained:
    """An autoencoder in training. `generator` trains its decoder, or encoder and decoder, by these names; `average` is
    their moving average, `critic` the discriminator that is trained against them; None without one.
    """

    autoencoder: AudioAutoencoder
    generator: Learner
    average: EMA | None
    critic: Learner | None
    buffers: Buffers = field(default_factory=Buffers)

    @classmethod
    def prepare(
        cls, autoencoder: AudioAutoencoder, discriminator: EncodecDiscriminator | None, recipe: TrainAutoencoder
    ) -> "Trained":
        """What the recipe trains of an autoencoder, which is on its device."""
        autoencoder.eval().requires_grad_(False)
        parts = {"decoder": autoencoder.decoder}
        if not recipe.decoder_only:
            parts["encoder"] = autoencoder.encoder
        network, average = nn.ModuleDict(parts), None
        if recipe.ema_decay:
            options = {"beta": recipe.ema_decay, "power": AVERAGE_POWER, "update_every": 1, "update_after_step": 1}
            average = EMA(network, copied(network), include_online_model=False, **options)
        generator = Learner.of(network, recipe.learning_rate)
        critic = Learner.of(discriminator, recipe.discriminator_learning_rate) if discriminator is not None else None
        return cls(autoencoder, generator, average, critic)

    @property
    def encodes(self) -> bool:
        """Whether the encoder is trained."""
        return "encoder" in dict(self.generator.network.named_children())

    def snapshot(self, progress: Progress) -> Snapshot:
        """A checkpoint as it is now, to be written before the next one is taken."""
        tensors = {name: tensor for learner, *names in self._learners() for name, tensor in learner.tensors(*names)}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        return Snapshot(self.buffers.copy(tensors.items()), progress.as_json())

    def restore(self, path: Path) -> Progress:
        """Puts everything back where it was; returns the numbers of the checkpoint.

        CheckpointError when the file is none, is not of this run, or says what cannot be: then nothing was changed.
        """
        found = {name: tensor.shape for name, tensor in checkpoint.header(path).items()}
        wanted = {name: shape for learner, *names in self._learners() for name, shape in learner.shapes(*names)}
        if self.average is not None:
            wanted |= {f"average.{name}": tuple(tensor.shape) for name, tensor in self.average.state_dict().items()}
        if wrong := sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name)):
            text = f"{len(wrong)} tensors are not those of what is trained, such as {wrong[:NAMED]}"
            raise CheckpointError(text[:300])
        with safe_open(path, "pt") as file:
            progress = Progress.from_json((file.metadata() or {}).get("progress", ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        for learner, *names in self._learners():
            learner.restore(tensors, *names)
        if self.average is not None:
            self.average.load_state_dict(below(tensors, "average"), strict=True)
        return progress

    def result(self) -> AudioAutoencoder:
        """The autoencoder as it would be exported now: with the average where there is one."""
        if self.average is None:
            return self.autoencoder
        parts, known = self.average.ema_model, self.autoencoder
        return AudioAutoencoder(
            parts["encoder"] if self.encodes else known.encoder,
            parts["decoder"],
            known.latent_dim,
            known.downsampling_ratio,
            known.sample_rate,
            known.io_channels,
            known.bottleneck,
            soft_clip=known.soft_clip,
        ).eval()

    def _learners(self) -> Iterator[tuple[Learner, str, str]]:
        yield self.generator, "network", "optimizer"
        if self.critic is not None:
            yield self.critic, "discriminator", "discriminator_optimizer"


def below(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The tensors below a name, without it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def copied(network: nn.ModuleDict) -> nn.ModuleDict:
    """A copy with frozen weights. What weight normalisation derives from them is left out: torch copies no tensor that
    was computed with gradients, and each pass computes it anew.
    """
    derived = [
        (module, module.__dict__.pop("weight"))
        for module in network.modules()
        if "weight_g" in module._parameters and "weight" in module.__dict__
    ]
    try:
        return copy.deepcopy(network).requires_grad_(False)
    finally:
        for module, weight in derived:
            module.weight = weight


def _points(pairs: Any) -> list[LossPoint]:
    return [LossPoint(step=step, loss=loss) for step, loss in pairs]
