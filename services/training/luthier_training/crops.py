"""Crops of clips, as an autoencoder is trained on them.

Which crops a batch has follows from (seed, batch number) alone, as in `examples`. Only the files are on this machine:
a crop is decoded when it is drawn, so that hours of clips take no memory.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from luthier_kit.rpc import InvalidRequest
from luthier_model.configuration import Configuration
from luthier_training import audio
from luthier_training.dataset import REASON
from luthier_training.seeds import seed_of

SILENT_END = 0.2
"""Share of crops that hold the end of a clip and the silence behind it."""
SILENCE = 1e-4
"""RMS below which a crop is silent, -80 dB of full scale: 16 bits hold little more."""
MAX_DRAWS = 20
"""Crops drawn for one place of a batch before the data set is held to be silent."""


@dataclass(frozen=True)
class Clip:
    """A clip's file, and how many samples it has at the model's rate."""

    path: Path
    length: int

    @classmethod
    def open(cls, path: Path, configuration: Configuration) -> "Clip":
        """InvalidRequest AUDIO_INVALID when it is no audio, empty or too long."""
        return cls(path, max(1, int(audio.duration_s(path) * configuration.sample_rate_hz)))


def crop_start(length: int, window: int, place: torch.Tensor, ending: torch.Tensor) -> int:
    """The first sample of a crop of `window` samples from a clip of `length`.

    `place` and `ending` are single random numbers in [0, 1): `ending` decides whether the crop lies inside the clip or
    holds its end and the silence behind it, `place` where.
    """
    if ending < SILENT_END:
        return length - int(place * min(window, length))
    return int(place * max(1, length - window))


def is_silent(crop: torch.Tensor) -> bool:
    return float(crop.square().mean().sqrt()) < SILENCE


def draw_crops(
    clips: Sequence[Clip], number: int, batch_size: int, window: int, configuration: Configuration, seed: int
) -> torch.Tensor:
    """Batch `number` (0, 1, 2, …): (batch, channels, window), each epoch in an order of its own.

    None is silent: the distance of spectra divides by the clip's own, and one silent crop would outweigh a whole batch.
    Another clip stands in for one that is silent where it is drawn. InvalidRequest DATASET_INVALID when all are.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "crops", number))
    rows = []
    for index in range(number * batch_size, (number + 1) * batch_size):
        epoch, within = divmod(index, len(clips))
        clip = clips[int(_order(len(clips), epoch, seed)[within])]
        for _ in range(MAX_DRAWS):
            place, ending = torch.rand(2, generator=generator)
            crop = audio.read_crop(clip.path, configuration, crop_start(clip.length, window, place, ending), window)
            if not is_silent(crop):
                break
            clip = clips[int(torch.randint(len(clips), (1,), generator=generator))]
        else:
            raise InvalidRequest(f"{MAX_DRAWS} crops of the train split in a row are silent", reason=REASON)
        rows.append(crop)
    return torch.stack(rows)


@functools.lru_cache(maxsize=2)  # a batch may lie across two epochs
def _order(count: int, epoch: int, seed: int) -> torch.Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, "epoch", epoch)))


def held_out_crops(clips: Sequence[Clip], window: int, configuration: Configuration, seed: int) -> list[torch.Tensor]:
    """A crop of each clip, (channels, window), without the silent ones; DATASET_INVALID when none is left."""
    found, inside = [], torch.ones(())
    for index, clip in enumerate(clips):
        place = torch.rand((), generator=torch.Generator().manual_seed(seed_of(seed, "held out", index)))
        found.append(audio.read_crop(clip.path, configuration, crop_start(clip.length, window, place, inside), window))
    sounding = [crop for crop in found if not is_silent(crop)]
    if not sounding:
        raise InvalidRequest("the crops of the validation split are silent", reason=REASON)
    return sounding
