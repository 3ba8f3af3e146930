"""Classifier-free guidance (Ho and Salimans 2022), of one request or of several in one evaluation of the network.

With a scale other than 1 a request has two branches, as asked for and without what guidance steers by; the velocity is
unconditional + scale * (conditional - unconditional). Rescale: Lin et al. 2023, "Common Diffusion Noise Schedules and
Sample Steps are Flawed", section 3.4: pulls its spread in each frame back to that of the conditional branch. Interval:
Kynkäänniemi 2024, "Applying Guidance in a Limited Interval": elsewhere the conditional branch stands alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from luthier_model.adapter_mix import AdapterMix

Conditioning = Mapping[str, Tensor | None]
"""Inputs of the library's wrapper by its names (`cross_attn_cond`, `prepend_cond`, `global_cond`, …), batch 1."""

GUIDED_KEYS: Final = ("cross_attn_cond", "prepend_cond")
"""What guidance's other branch goes without, and what training drops at times so that it can."""

B = TypeVar("B")


@dataclass(frozen=True, eq=False)
class Row(Generic[B]):
    """Latents (1, channels, latents) at timestep `t` (0 = clean, 1 = noise alone), and what the network is told."""

    x: Tensor
    t: float
    branch: B


class Network(Protocol[B]):
    """What predicts velocities, the transformer or a U-Net, with its own form of what a row is told."""

    def branch(self, told: Conditioning, mix: AdapterMix | None = None) -> B:
        """What the row as asked for is told, and the adapters that it is evaluated with."""

    def other_branch(self, told: Conditioning, negative: Conditioning | None, mix: AdapterMix | None = None) -> B:
        """What guidance steers away from: nothing, or the negative prompt, as the library's wrapper names it."""

    def __call__(self, rows: Sequence[Row[B]]) -> list[Tensor]:
        """The velocity of each row, shaped as its latents. All have as many latents."""


@dataclass(frozen=True, eq=False)
class Guided(Generic[B]):
    """A request's branches and how they are put together. Without an `unconditional` branch the other stands alone."""

    conditional: B
    unconditional: B | None = None
    scale: float = 1.0
    rescale: float = 0.0

    @property
    def branches(self) -> list[B]:
        """One for each row of the network that an evaluation takes at most."""
        return [self.conditional] if self.unconditional is None else [self.conditional, self.unconditional]

    def put_together(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        """The guided velocity (1, channels, latents) of those of its branches."""
        guided = unconditional + (conditional - unconditional) * self.scale
        if not self.rescale:
            return guided
        spread = conditional.std(dim=1, keepdim=True) / guided.std(dim=1, keepdim=True)  # (1, 1, latents)
        return guided * (spread * self.rescale + (1 - self.rescale))


@dataclass(frozen=True, eq=False)
class Asked(Generic[B]):
    """Latents (1, channels, latents) of a request at timestep `t`, to be evaluated.

    `steered` False: outside its interval of guidance. `both`: the answer is the guided velocity and behind it that of
    the unconditional branch, (2, channels, latents); where nothing is guided the same twice.
    """

    guided: Guided[B]
    x: Tensor
    t: float
    steered: bool = True
    both: bool = False

    @property
    def branches(self) -> list[B]:
        """One for each row of the network that it takes."""
        return self.guided.branches if self.steered else [self.guided.conditional]

    def put_together(self, answers: Sequence[Tensor]) -> Tensor:
        """The answer from those of its rows."""
        velocity = self.guided.put_together(*answers) if len(answers) == 2 else answers[0]
        return torch.cat([velocity, answers[-1]]) if self.both else velocity


def velocities(network: Network[B], asked: Sequence[Asked[B]]) -> list[Tensor]:
    """The answer to each, in one pass of the network."""
    rows = [Row(each.x, each.t, branch) for each in asked for branch in each.branches]
    answers = iter(network(rows))
    return [each.put_together([next(answers).to(each.x.dtype) for _ in each.branches]) for each in asked]


class UNet:
    """Stable Audio 1's U-Net by the library's own forward pass; a row is told what the library's wrapper takes."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    def branch(self, told: Conditioning, mix: AdapterMix | None = None) -> Conditioning:
        """All that there is. ValueError with adapters, which a U-Net takes merged only."""
        if mix is not None:
            raise ValueError("a U-Net takes no adapters while it runs")
        return {name: value for name, value in told.items() if value is not None}

    def other_branch(
        self, told: Conditioning, negative: Conditioning | None, mix: AdapterMix | None = None
    ) -> Conditioning:
        """What the network learned for no text, in place of the text or of the negative prompt's padding."""
        text = told["cross_attn_cond"]
        assert text is not None  # of a U-Net every condition but the seconds
        learned: Tensor = self._wrapper.model.fixed_embedding(text)
        if negative and (given := negative.get("negative_cross_attn_cond")) is not None:
            mask = negative["negative_cross_attn_mask"]
            learned = given if mask is None else torch.where(mask.bool()[..., None], given, learned)
        return self.branch({**told, "cross_attn_cond": learned}, mix)

    def __call__(self, rows: Sequence[Row[Conditioning]]) -> list[Tensor]:
        """See `Network`."""
        x = torch.cat([row.x for row in rows])
        t = torch.tensor([row.t for row in rows], dtype=torch.float32, device=x.device)
        told = {
            name: torch.cat([value for row in rows if (value := row.branch[name]) is not None])
            for name in rows[0].branch
        }
        velocity: Tensor = self._wrapper(x, t, **told)
        return list(torch.split(velocity, 1))
