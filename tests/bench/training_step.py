"""Where the CPU seconds of a fine-tuning step go, part by part, beside torch's own AdamW and a step's bare products.

    services/training/.venv/bin/python tests/bench/training_step.py [--width 512 --depth 12 --heads 8] [--batch-size 4]
        [--steps 6]

Size `small` or another transformer over its autoencoder, random weights, text states of zeros; one thread, medians. The
products are as many floating-point operations as the step's, done by a multiplication of its largest shape.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from luthier.training.v1.training_pb2 import FineTune
from luthier_model.memory import AnyPrompt
from luthier_model.network import random_model
from luthier_training.examples import Batch, Conditions
from luthier_training.ranks import ALONE
from luthier_training.recipes import fine_tune
from tests.bench.training import sized


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small")
    parser.add_argument("--width", type=int)
    parser.add_argument("--depth", type=int)
    parser.add_argument("--heads", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    known = sized(asked)
    model = random_model(known, 1)
    conditioners = model.conditioner.conditioners
    conditioners["prompt"] = AnyPrompt(conditioners["prompt"], known.text.states)
    trained = fine_tune.prepare(model, FineTune(ema_decay=0.9999, learning_rate=1e-4))
    assert trained.average is not None
    latents = torch.randn(asked.batch_size, known.latent_channels, known.window_latents)
    said = [Conditions(prompt="", seconds_start=0.0, seconds_total=known.window_s)] * asked.batch_size
    rows = torch.zeros(asked.batch_size, dtype=torch.bool)
    batch = Batch(latents, said, torch.randn_like(latents), torch.rand(asked.batch_size), rows, None)
    parameters = [each for each in model.parameters() if each.requires_grad]
    plain = torch.optim.AdamW(
        parameters, lr=1e-4, betas=fine_tune.BETAS, weight_decay=fine_tune.WEIGHT_DECAY, fused=False
    )
    seconds: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        found = work()
        seconds.setdefault(name, []).append(time.process_time() - began)
        return found

    with FlopCounterMode(display=False) as counter:
        fine_tune.batch_loss(model, batch, recompute=False).backward()
    width = known.document["model"]["diffusion"]["config"]["embed_dim"]
    wide, narrow = torch.randn(asked.batch_size * known.window_latents, width), torch.randn(width, 8 * width)
    times = max(round(counter.get_total_flops() / (2 * wide.numel() * narrow.shape[1])), 1)
    for _ in range(asked.steps + 1):  # the first warms up
        timed("moving average", trained.average.update)
        trained.gradients.forget()
        loss = timed("forward", lambda: fine_tune.batch_loss(model, batch, recompute=False))
        timed("backward", loss.backward)
        trained.gradients.average(ALONE)
        timed("clipping", lambda: trained.gradients.clip(fine_tune.MAX_GRADIENT_NORM))
        timed("AdamW", trained.optimizer.step)
        timed("(torch's own AdamW)", plain.step)
        timed("(the bare products)", lambda: [wide @ narrow for _ in range(times)])
    print(f"{counter.get_total_flops() / 1e9:.1f} GFLOP forward and backward, batches of {asked.batch_size}")
    for name, found in seconds.items():
        print(f"{name:20s} {statistics.median(found[1:]):8.4f} CPU seconds")


if __name__ == "__main__":
    main()
