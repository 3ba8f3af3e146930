"""What a training step sees: which clips, which prompt of each, which sample of its latents.

All of it follows from (seed, batch number), so a run that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from luthier_training.dataset import Clip
from luthier_training.latents import Latents, Stretch
from luthier_training.seeds import seed_of

EXCERPTS_PER_CLIP = 8
"""Random excerpts of each training clip beside the whole, where excerpts are asked for."""
GRID_S = 0.01
"""Excerpts begin and end on this grid, so that their actions have short names."""
Batch = tuple[torch.Tensor, list[dict[str, Any]]]
"""(batch, latent channels, window latents), and a dictionary of conditions for each row, as the library has
it.
"""


@dataclass(frozen=True)
class Example:
    """A clip as it is trained on: its own file, so it starts at 0 and lasts `latents.seconds_total`."""

    latents: Latents
    prompts: tuple[str, ...]

    def row(self, prompt: str) -> dict[str, Any]:
        """Conditions, and the padding mask that the library's wrapper wants."""
        conditions = {"prompt": prompt, "seconds_start": 0.0, "seconds_total": self.latents.seconds_total}
        return {**conditions, "padding_mask": [self.latents.sounding]}


def excerpts(clip: Clip, duration_s: float, shortest_s: float, seed: int) -> list[Stretch]:
    """Random excerpts of `shortest_s` to nearly the whole; none when the clip is no longer than that."""
    draw = random.Random(f"{seed} {clip.audio.sha256}")
    found = []
    for _ in range(EXCERPTS_PER_CLIP if duration_s > shortest_s else 0):
        length_s = draw.uniform(shortest_s, duration_s)
        start_s = draw.uniform(0, duration_s - length_s)
        on_grid = (round(value / GRID_S) * GRID_S for value in (start_s, length_s))
        start_s, length_s = (round(value, 2) for value in on_grid)
        found.append(Stretch(clip, start_s, length_s))
    return found


def draw_batch(examples: Sequence[Example], number: int, batch_size: int, seed: int) -> Batch:
    """Batch `number` (0, 1, 2, …): each epoch in an order of its own, each clip with one of its prompts."""
    generator = torch.Generator().manual_seed(seed_of(seed, "batch", number))
    rows, latents = [], []
    for place in range(number * batch_size, (number + 1) * batch_size):
        example = examples[_index(place, len(examples), seed)]
        which = int(torch.randint(len(example.prompts), (1,), generator=generator))
        latents.append(example.latents.sample(generator))
        rows.append(example.row(example.prompts[which]))
    return torch.stack(latents), rows


def _index(place: int, count: int, seed: int) -> int:
    epoch, within = divmod(place, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, "epoch", epoch)))
    return int(order[within])
