"""Clips encoded by this build and one at a time by the library's own encoder, in turn: clips per CPU second.

    services/training/.venv/bin/python tests/bench/encoding.py [--size tiny] [--autoencoder stable-audio-open-1.0]
        [--seconds 30] [--clips 8] [--blocks 5] [--excerpts 0] [--device cpu]

FLAC clips of noise at 44.1 kHz, random weights (speed does not depend on the values), stores in folders. One at a time
is what Luthier did before: fetch, decode, resample, pad to the window, encode, store, and again for each excerpt. Both
have the store's digests and syncs. It prints the largest difference of the latents, too.
"""

import argparse
import copy
import functools
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FineTune, TrainingProgress
from luthier_kit.registry import ModelVersion, register
from luthier_kit.store import Store, StoreSettings, open_store
from luthier_model import configuration, text_encoder, tiny
from luthier_model.configuration import Configuration, check
from luthier_training import audio
from luthier_training.base_model import BaseModel, Excerpt, Latents, StoredLatents, posterior_of
from luthier_training.encoding import encode_clips, identity
from luthier_training.examples import excerpts
from luthier_training.job import Job
from luthier_training.reporting import Reporter

PROMPTS = ["Jazz, piano trio, 120 BPM, F major"]
RATE_HZ = 44_100


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="tiny", help="tiny or small")
    parser.add_argument("--autoencoder", help="of which model, with its window; the rest is that of the size")
    parser.add_argument("--seconds", type=float, default=30.0, help="that a clip lasts")
    parser.add_argument("--clips", type=int, default=8, help="of a block")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--excerpts", type=float, default=0.0, help="eight of each clip, of so many seconds or more")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return parser.parse_args()


def one_at_a_time(base: BaseModel, rows: list[DatasetRow], asked: argparse.Namespace, folder: Path) -> list[Latents]:
    """The latents of clips and excerpts, read back from the store."""
    known, pretransform = base.configuration, base.model.pretransform

    def encoded(samples: torch.Tensor) -> Latents:
        cut = samples[:, : known.window_samples]
        window = torch.nn.functional.pad(cut, (0, known.window_samples - cut.shape[1]))
        posterior = posterior_of(pretransform.model, window[None].to(asked.device))
        parts = ((part[0] / pretransform.scale).cpu().contiguous() for part in posterior)
        return Latents(*parts, samples.shape[1] / known.sample_rate_hz)

    found: list[StoredLatents] = []
    for row in rows:
        parts = [Excerpt(row), *(excerpts(row, asked.seconds, asked.excerpts, 1) if asked.excerpts else [])]
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            read = functools.partial(read_clip, base, row, Path(scratch))
            found += [base.latents(part, read, folder, encoded) for part in parts]
    return [each.read() for each in found]


def read_clip(base: BaseModel, row: DatasetRow, scratch: Path) -> torch.Tensor:
    """(channels, samples) of a clip, fetched into a folder."""
    return audio.read(base.store.blobs.fetch(row.audio, scratch), base.configuration)


def ahead(base: BaseModel, rows: list[DatasetRow], asked: argparse.Namespace, folder: Path) -> list[Latents]:
    """The same by this build."""
    request = CreateTrainingRunRequest(fine_tune=FineTune(min_excerpt_s=asked.excerpts), seed=1)
    job = Job("training-bench", request, base.store, Reporter(TrainingProgress()), asked.device, folder)
    made = encode_clips(job, base, rows, folder)
    return [part.latents.read() for row in rows for part in made[identity(row)]]


def clips(store: Store, seconds: float, count: int, seed: int) -> list[DatasetRow]:
    """Rows of clips of smooth noise, stored as FLAC."""
    rows = []
    for number in range(count):
        draw = np.random.default_rng([seed, number])
        sound = np.cumsum(draw.standard_normal((round(seconds * RATE_HZ), 2)), axis=0)
        sound = 0.5 * sound / np.abs(sound).max() + 0.01 * draw.standard_normal(sound.shape)
        file = io.BytesIO()
        soundfile.write(file, sound, RATE_HZ, format="FLAC")
        ref = store.blobs.put_bytes("clips", file.getvalue(), "flac", "audio/flac")
        rows.append(DatasetRow(split="train", prompts=PROMPTS, song_fingerprint=f"{seed}-{number}", audio=ref))
    return rows


def with_autoencoder(small: Configuration, other: Configuration) -> Configuration:
    """A small model with the autoencoder, sample rate and window of another."""
    document = copy.deepcopy(dict(small.document))
    document["sample_rate"], document["sample_size"] = other.sample_rate_hz, other.window_samples
    model = document["model"]
    model["pretransform"] = copy.deepcopy(other.document["model"]["pretransform"])
    model["io_channels"] = model["diffusion"]["config"]["io_channels"] = other.latent_channels
    return check(document)


def opened(folder: Path, known: Configuration, asked: argparse.Namespace) -> BaseModel:
    """A model of random weights in a store of its own."""
    store = open_store(StoreSettings(store="folder", store_folder=folder / "store"))
    weights, text = tiny.write_random(known, PROMPTS, folder, seed=1)
    files = [(file.name, store.blobs.put_file("text_encoders", file)) for file in text_encoder.files(text)]
    checkpoint = store.blobs.put_file("checkpoints", weights)
    described = store.blobs.put_bytes("configurations", json.dumps(known.document).encode(), "json", "application/json")
    version = ModelVersion(name="base", checkpoint=checkpoint, configuration=described, text_encoder=tuple(files))
    return BaseModel.open(store, register(store, version), asked.device, folder / "base")


def measured(work: Callable[[], list[Latents]]) -> tuple[list[Latents], float, float]:
    """What it gives, wall clock and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    asked = arguments()
    known = tiny.configuration(size=asked.size)
    if asked.autoencoder:
        known = with_autoencoder(known, configuration.packaged(asked.autoencoder))
    times: tuple[list[tuple[float, float]], ...] = ([], [])  # ours and theirs: wall clock and CPU seconds of a block
    largest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bases = [opened(folder / which, known, asked) for which in ("ours", "theirs")]
        request, reporter = CreateTrainingRunRequest(), Reporter(TrainingProgress())
        job = Job("training-bench", request, bases[0].store, reporter, asked.device, folder)
        job.choose_threads(sum(parameter.numel() for parameter in bases[0].model.parameters()))
        for block in range(asked.blocks + 1):  # the first warms up
            found = []
            for base, how, taken in zip(bases, (ahead, one_at_a_time), times, strict=True):
                rows, kept = clips(base.store, asked.seconds, asked.clips, block), folder / f"{how.__name__}{block}"
                kept.mkdir()
                latents, *took = measured(functools.partial(how, base, rows, asked, kept))
                taken.append((took[0], took[1]))
                found.append(latents)
            for one, other in zip(*found, strict=True):
                for part in ("mean", "deviation"):
                    largest = max(largest, float((getattr(one, part) - getattr(other, part)).abs().max()))
    where = torch.cuda.get_device_name() if asked.device == "cuda" else f"{os.cpu_count()} cores, {platform.machine()}"
    print(
        f"clips of {asked.seconds:g} s, a window of {known.window_s:.1f} s; {where}, {torch.get_num_threads()} threads"
    )
    for name, column in (("CPU second", 1), ("second", 0)):
        ours, theirs = ([asked.clips / block[column] for block in blocks[1:]] for blocks in times)
        ratios = sorted(here / there for here, there in zip(ours, theirs, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} over {len(ratios)} blocks"
        here, there = sum(ours) / len(ours), sum(theirs) / len(theirs)
        print(f"clips per {name}: {here:.3g} against {there:.3g}: {ratios[len(ratios) // 2]:.2f}x ({spread})")
    print(f"latents differ by {largest:.1e} at most")


if __name__ == "__main__":
    main()
