"""What a training step takes: which clips, what is said of each, its latents, noise, timesteps, dropped conditions.

All of it follows from (seed, batch number) and is drawn for the whole batch on the CPU. So a run that was killed goes
on as if nothing had happened, and its course depends neither on the device nor on how many processes share a batch.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypedDict

import torch

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_music.clip_facts import Facts
from luthier_music.metadata import draw_metadata
from luthier_training.base_model import Excerpt, Latents, StoredLatents
from luthier_training.dataset import POLYPHONIC
from luthier_training.mixture import Mixture
from luthier_training.plan import Source
from luthier_training.seeds import seed_of

EXCERPTS_PER_CLIP = 8
"""Random excerpts of each training clip beside the whole, where excerpts are asked for."""
GRID_S = 0.01
"""Excerpts begin and end on this grid, so that their actions have short names."""


class Conditions(TypedDict):
    """What the transformer is told about a clip, as stable-audio-tools' conditioner takes it; seconds."""

    prompt: str
    seconds_start: float
    seconds_total: float


@dataclass(frozen=True)
class Example:
    """A clip as it is trained on: its own file, so it starts at 0 and lasts `latents.seconds_total`; or the part of a
    longer one that begins at `start_s`, of which the whole lasts `whole_s`.

    `facts` are what its metadata may state; `dataset` is the number of its data set among the run's.
    """

    latents: Latents | StoredLatents
    prompts: tuple[str, ...]
    facts: Facts = Facts()
    dataset: int = 0
    subset: str = POLYPHONIC
    start_s: float = 0.0
    whole_s: float = 0.0

    def conditions(self, prompt: str) -> Conditions:
        whole_s = self.whole_s or self.latents.seconds_total
        return {"prompt": prompt, "seconds_start": self.start_s, "seconds_total": whole_s}


@dataclass(frozen=True)
class Batch:
    """`latents`, `noise`: (batch, latent channels, window latents); `conditions`: one for each row.

    `timesteps`: (batch,) in [0, 1), 0 = clean. `dropped`: (batch,) bool, True where a row is trained without its prompt
    and seconds in cross attention. `kept`: (batch, 1, window latents), 1 where a model that fills in the rest is given
    the latents; None for other models.
    """

    latents: torch.Tensor
    conditions: list[Conditions]
    noise: torch.Tensor
    timesteps: torch.Tensor
    dropped: torch.Tensor
    kept: torch.Tensor | None = None

    def part(self, rows: slice) -> "Batch":
        """Some rows."""
        return self._each(lambda tensor: tensor[rows], self.conditions[rows])

    def pinned(self) -> "Batch":
        """The same in memory from which a GPU copies while the CPU goes on."""
        return self._each(torch.Tensor.pin_memory, self.conditions)

    def on(self, device: str) -> "Batch":
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True), self.conditions)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor], conditions: list[Conditions]) -> "Batch":
        tensors = (self.latents, self.noise, self.timesteps, self.dropped)
        latents, noise, timesteps, dropped = map(change, tensors)
        kept = None if self.kept is None else change(self.kept)
        return Batch(latents, conditions, noise, timesteps, dropped, kept)


def excerpts(clip: DatasetRow, duration_s: float, shortest_s: float, seed: int) -> list[Excerpt]:
    """Random excerpts of `shortest_s` to nearly the whole; none when the clip is no longer than that."""
    draw = random.Random(f"{seed} {clip.audio.sha256}")
    found = []
    for _ in range(EXCERPTS_PER_CLIP if duration_s > shortest_s else 0):
        length_s = draw.uniform(shortest_s, duration_s)
        start_s = draw.uniform(0, duration_s - length_s)
        on_grid = (round(round(value / GRID_S) * GRID_S, 2) for value in (start_s, length_s))
        found.append(Excerpt(clip, *on_grid))
    return found


def windows(clip: DatasetRow, duration_s: float, window_s: float, count: int, seed: int) -> list[Excerpt]:
    """As many windows of a clip, one at a random place of each part of it, the parts being equal; none when the clip is
    no longer than a window.
    """
    draw, room_s = random.Random(f"{seed} windows {clip.audio.sha256}"), duration_s - window_s
    places = [(number + draw.random()) / count * room_s for number in range(count if room_s > 0 else 0)]
    return [Excerpt(clip, round(math.floor(place / GRID_S) * GRID_S, 2), window_s) for place in places]


@dataclass(frozen=True)
class LogitNormal:
    """A distribution on (0, 1): its logit is normal, of this mean and standard deviation (Esser 2024)."""

    mean: float
    deviation: float

    def quantile(self, share: torch.Tensor) -> torch.Tensor:
        """Timesteps below which a share of all, 0 to 1, lies."""
        inside = share.clamp(1e-6, 1 - 1e-6)
        return torch.sigmoid(self.mean + self.deviation * torch.special.ndtri(inside))


def mixture_of(examples: Sequence[Example], sources: Sequence[Source], seed: int) -> Mixture[Example]:
    """What a stage draws from: of each source the examples of its data set and subset."""
    clips: dict[tuple[int, str], list[Example]] = defaultdict(list)
    for each in examples:
        for subset in ("", each.subset):
            clips[each.dataset, subset].append(each)
    return Mixture(
        [clips[source.dataset, source.subset] for source in sources], [source.share for source in sources], seed
    )


def draw_batch(
    examples: Sequence[Example] | Mixture[Example],
    number: int,
    batch_size: int,
    dropout: float,
    seed: int,
    metadata_share: float = 0.0,
    logit: LogitNormal | None = None,
) -> Batch:
    """Batch `number` (0, 1, 2, …) of a mixture, or of examples that are one source of it: each epoch in an order of its
    own, each clip with one of its prompts.

    `dropout` is the probability that a row's conditions are dropped, `metadata_share` that a clip comes with a draw of
    its metadata in place of a prompt; `logit` how timesteps are distributed, None = uniformly.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "batch", number))
    latents, conditions = [], []
    mixture = examples if isinstance(examples, Mixture) else Mixture([examples], [Fraction(1)], seed)
    for place in range(number * batch_size, (number + 1) * batch_size):
        example = mixture.at(place)
        prompt = example.prompts[int(torch.randint(len(example.prompts), (1,), generator=generator))]
        draw = random.Random(seed_of(seed, "metadata", place))
        if draw.random() < metadata_share:
            prompt = draw_metadata(example.facts, draw) or prompt
        latents.append(example.latents.sample(generator))
        conditions.append(example.conditions(prompt))

    step_seed = seed_of(seed, "step", number)
    generator = torch.Generator().manual_seed(step_seed)
    noise = torch.randn((batch_size, *latents[0].shape), generator=generator)
    dropped = torch.bernoulli(torch.full((batch_size,), dropout), generator=generator).bool()
    # a scrambled Sobol sequence covers the timesteps evenly within a batch, as in the library's training
    sobol = torch.quasirandom.SobolEngine(1, scramble=True, seed=step_seed % (1 << 31))  # type: ignore[no-untyped-call]
    timesteps = sobol.draw(batch_size)[:, 0]
    if logit:
        timesteps = logit.quantile(timesteps)
    return Batch(torch.stack(latents), conditions, noise, timesteps, dropped)
