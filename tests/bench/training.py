"""Training steps of this build and of stable-audio-tools' own wrapper, on the same clips, in turn.

    services/training/.venv/bin/python tests/bench/training.py [--size small] [--width 512 --depth 12 --heads 8]
        [--config FILE] [--blocks 8] [--steps 10] [--batch-size 16] [--on-the-fly] [--checkpoint-every 4]

Random weights and latents (speed does not depend on the values). Both are full fine-tuning with AdamW and a moving
average; the wrapper runs in a plain loop, without Lightning's own cost. It takes latents as its pre-encoding leaves
them, with `--on-the-fly` audio; its text encoder runs in each step, as it always does. Blocks of steps alternate.

With `--checkpoint-every` it says, too, how long checkpoints stop our loop, and how long they take to be written: give
it so many steps that one is written before the next is due. Their CPU seconds are then among ours.
"""

import argparse
import copy
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper
from stable_audio_tools.training.diffusion import DiffusionCondTrainingWrapper

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FineTune, LossPoint, TrainingProgress
from luthier_kit.store import StoreSettings, open_store
from luthier_model import configuration, tiny
from luthier_model.configuration import Configuration
from luthier_model.loading import load
from luthier_training.ahead import Beside
from luthier_training.base_model import CachedPrompts, StoredLatents, StoredText, encode_text
from luthier_training.examples import Example
from luthier_training.job import Job
from luthier_training.observations import Observer
from luthier_training.recipes import fine_tune
from luthier_training.recipes.fine_tune import BETAS, WEIGHT_DECAY, fit
from luthier_training.reporting import Reporter

PROMPTS = [f"{mood} {genre} with drums and bass at {tempo} BPM in A minor"
           for mood in ("calm", "driving") for genre in ("rock", "jazz") for tempo in (90, 120)]  # fmt: skip
CLIPS = 64
LEARNING_RATE, DECAY = 1e-4, 0.9999


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", help="tiny or small")
    parser.add_argument("--width", type=int, help="of the size's transformer, in place of its own; so depth and heads")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--heads", type=int)
    parser.add_argument("--config", type=Path, help="a model_config.json in place of a size")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of a block")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--on-the-fly", action="store_true", help="the wrapper encodes audio in each step")
    parser.add_argument("--checkpoint-every", type=int, default=0, help="steps; default: one at the end")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return parser.parse_args()


class Peer:
    """The library's wrapper and the loop that Lightning would run."""

    def __init__(
        self, model: ConditionedDiffusionModelWrapper, known: Configuration, asked: argparse.Namespace
    ) -> None:
        optimizer = {"type": "AdamW", "config": {"lr": LEARNING_RATE, "betas": BETAS, "weight_decay": WEIGHT_DECAY}}
        model.train().requires_grad_(True)
        model.pretransform.requires_grad_(False)
        self.wrapper = DiffusionCondTrainingWrapper(
            model, optimizer_configs={"diffusion": {"optimizer": optimizer}}, pre_encoded=not asked.on_the_fly
        ).to(asked.device)
        self.wrapper.log_dict = lambda *_, **__: None  # no Trainer, no logger
        self.wrapper._trainer = argparse.Namespace(optimizers=[])
        [self.optimizer] = self.wrapper.configure_optimizers()
        self.wrapper._trainer.optimizers = [self.optimizer]
        shape = (known.channels, known.window_samples) if asked.on_the_fly else (
            known.latent_channels, known.window_latents,
        )  # fmt: skip
        self.clips, self.batch_size = torch.randn((CLIPS, *shape)) * 0.1, asked.batch_size
        self.device, self.seconds = asked.device, known.window_s

    def step(self, number: int) -> float:
        rows = [(number * self.batch_size + row) % CLIPS for row in range(self.batch_size)]
        told = [
            {
                "prompt": PROMPTS[row % len(PROMPTS)],
                "seconds_start": 0.0,
                "seconds_total": self.seconds,
                "padding_mask": torch.ones(1, self.clips.shape[-1], dtype=torch.bool),
            }
            for row in rows
        ]
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.wrapper.training_step((self.clips[rows].to(self.device), told), number)
        self.wrapper.on_before_zero_grad()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.wrapper.diffusion.parameters(), 1.0)
        self.optimizer.step()
        return float(loss)


class Alternating(Reporter):
    """Runs a block of the peer's steps after each block of ours, and keeps both clocks."""

    def __init__(self, peer: Peer, asked: argparse.Namespace) -> None:
        super().__init__(TrainingProgress())
        self.peer, self.block, self.device = peer, asked.steps, asked.device
        self.ours: list[tuple[float, float]] = []  # wall clock and CPU seconds of a block
        self.theirs: list[tuple[float, float]] = []
        self.mark = self.clock()

    def clock(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def advance(
        self,
        done: int,
        total: int,
        loss: float | None = None,
        training: Sequence[LossPoint] = (),
        validation: Sequence[LossPoint] = (),
    ) -> None:
        if done % self.block:
            return
        self.ours.append(since(self.mark, self.clock()))
        before = self.clock()
        for number in range(done - self.block, done):
            self.peer.step(number)
        self.theirs.append(since(before, self.clock()))
        print(f"\r{done} steps of {total}", end="", file=sys.stderr, flush=True)
        self.mark = self.clock()


class Checkpoints:
    """How long the loop is stopped by checkpoints, and how long they take to be written; seconds of the clock."""

    def __init__(self) -> None:
        self.stopped, self.written, self.depth = 0.0, list[float](), 0
        fine_tune.store_checkpoint = self.stopping(fine_tune.store_checkpoint)
        for name in ("poll", "finish"):
            setattr(Beside, name, self.stopping(getattr(Beside, name)))
        fine_tune.put_snapshot = self.writing(fine_tune.put_snapshot)

    def stopping(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            began, self.depth = time.perf_counter(), self.depth + 1
            try:
                return work(*arguments, **options)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.stopped += time.perf_counter() - began

        return timed

    def writing(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                self.written.append(time.perf_counter() - began)

        return timed

    def report(self) -> None:
        *others, last = self.written  # the run waits for its last one
        each, share = sum(self.written) / len(self.written), (self.stopped - last) / sum(others)
        print(f"{len(self.written)} checkpoints took {each:.2f} s each to be written; the loop stood {share:.1%} of it")


def since(begun: tuple[float, float], now: tuple[float, float]) -> tuple[float, float]:
    return now[0] - begun[0], now[1] - begun[1]


def main() -> None:
    asked = arguments()
    known = configuration.read(asked.config.read_bytes()) if asked.config else sized(asked)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, text = tiny.write_random(known, PROMPTS, folder, seed=1)
        model = load(known, weights, text, asked.device)
        peer = Peer(load(known, weights, text, asked.device), known, asked)
        conditioner = model.conditioner.conditioners["prompt"]
        tokens, mask = encode_text(conditioner, PROMPTS, asked.device)
        save_file({"states": tokens.cpu(), "mask": mask.cpu()}, folder / "text.safetensors")
        said = {prompt: StoredText(folder / "text.safetensors", row) for row, prompt in enumerate(PROMPTS)}
        model.conditioner.conditioners["prompt"] = CachedPrompts(conditioner, said)
        latents = torch.randn(CLIPS, 2, known.latent_channels, known.window_latents) * 0.1
        examples = [
            Example(stored(latents[number], folder, known.window_s), (PROMPTS[number % len(PROMPTS)],))
            for number in range(CLIPS)
        ]
        steps = asked.steps * (asked.blocks + 1)  # the first block warms up
        recipe = FineTune(
            steps=steps, batch_size=asked.batch_size, learning_rate=LEARNING_RATE, conditioning_dropout=0.1,
            validate_every=steps, checkpoint_every=asked.checkpoint_every or steps, ema_decay=DECAY, accumulate=1,
        )  # fmt: skip
        reporter = Alternating(peer, asked)
        request = CreateTrainingRunRequest(fine_tune=recipe, seed=1)
        store = open_store(StoreSettings(store="folder", store_folder=folder / "store"))
        job = Job("training-bench", request, store, reporter, asked.device, folder)
        parameters = sum(parameter.numel() for parameter in model.model.parameters())
        job.choose_threads(parameters)
        checkpoints = Checkpoints() if asked.checkpoint_every else None
        fit(job, model, examples, examples[:1], known, Observer(job, model, known, []))
    report(reporter, parameters, asked)
    if checkpoints:
        checkpoints.report()


def sized(asked: argparse.Namespace) -> Configuration:
    """A size's configuration with another transformer where one is asked for."""
    document = copy.deepcopy(dict(tiny.configuration(size=asked.size).document))
    other = {"embed_dim": asked.width, "depth": asked.depth, "num_heads": asked.heads}
    document["model"]["diffusion"]["config"] |= {name: value for name, value in other.items() if value}
    return configuration.check(document)


def stored(latents: torch.Tensor, folder: Path, seconds: float) -> StoredLatents:
    """(2, latent channels, window latents): mean and deviation, where a run keeps them."""
    path = folder / f"{len(list(folder.iterdir()))}.safetensors"
    save_file({"mean": latents[0].contiguous(), "deviation": latents[1].abs()}, path)
    return StoredLatents(path, seconds)


def report(reporter: Alternating, parameters: int, asked: argparse.Namespace) -> None:
    where = torch.cuda.get_device_name() if asked.device == "cuda" else f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"\ntransformer of {parameters / 1e6:.1f} million parameters, batches of {asked.batch_size}; {where}")
    for name, column in (("seconds", 0), ("CPU seconds", 1)):
        ours, theirs = (
            [block[column] / asked.steps for block in blocks[1:]] for blocks in (reporter.ours, reporter.theirs)
        )
        ratios = sorted(there / here for here, there in zip(ours, theirs, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} over {len(ratios)} blocks"
        print(
            f"{name} a step: ours {sum(ours) / len(ours):.4f}, the wrapper's {sum(theirs) / len(theirs):.4f}: "
            f"{sum(theirs) / sum(ours):.2f}x ({spread})"
        )


if __name__ == "__main__":
    main()
