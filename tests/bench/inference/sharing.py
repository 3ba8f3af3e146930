"""Requests that share a device against one at a time: `sharing.py [--config FILE] [--seconds S] [--rounds N]`.

In turn, each for `--seconds`, with random weights of a configuration (as steps.py): callers that ask again as soon as
they have their audio, some for 8 steps and some for 100, the same mix each time,
* one at a time, first in, first out, as a service with one slot does it;
* by the step scheduler, one request in a pass;
* by the step scheduler, `--batch` requests in a pass.
Prints steps a second and the time that short and long jobs take (median, 95 %), ratios to one at a time, then steps a
second with 1, 2, 4 and 8 callers of 20 steps.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steps import PROMPT, device_of, random_model

from luthier_inference.memory import Memory
from luthier_inference.scheduler import Scheduler
from luthier_inference.work import Work, amount_of
from luthier_kit.rpc import Workload
from luthier_model.generation import GenerationParameters, LoadedModel, decode, denoise

SHORT, LONG, ALIKE = 8, 100, 20  # steps
Generate = Callable[[GenerationParameters], object]


@dataclass
class Seen:
    """Seconds that each job took, by its steps, and how long it all lasted."""

    took: dict[int, list[float]] = field(default_factory=dict)
    lasted_s: float = 0.0

    def steps_a_second(self) -> float:
        return sum(steps * len(each) for steps, each in self.took.items()) / self.lasted_s


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="tiny", help="tiny, full, or a model_config.json")
    parser.add_argument("--text-encoder", type=Path)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--batch", type=int, default=4, help="requests in a pass")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each kind is loaded, a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", type=int, default=2, help="callers of 8 steps")
    parser.add_argument("--long", type=int, default=2, help="callers of 100 steps")
    return parser.parse_args()


@contextmanager
def one_at_a_time(model: LoadedModel) -> Any:
    """First in, first out."""
    with ThreadPoolExecutor(1) as device:

        def alone(p: GenerationParameters) -> object:
            return decode(model, p, list(denoise(model, p))[-1].latents)

        yield lambda p: device.submit(alone, p).result()


@contextmanager
def shared(model: LoadedModel, batch: int) -> Any:
    """By the step scheduler."""
    scheduler = Scheduler(model.device, 16, 16, batch, Workload("bench"), Memory(1 << 60))

    def beside_others(p: GenerationParameters) -> object:
        with scheduler.enter("model", amount_of(model.configuration, p), threading.Event()) as place:
            return place.run(Work(model, p))

    try:
        yield beside_others
    finally:
        scheduler.close()


def loaded(model: LoadedModel, generate: Generate, callers: Sequence[int], seconds: float, seen: Seen) -> None:
    """Each caller asks for so many steps again and again, until the time is over and its last is there."""
    began = time.perf_counter()

    def asks(steps: int, caller: int) -> list[float]:
        took: list[float] = []
        while time.perf_counter() - began < seconds:
            at = time.perf_counter()
            seed = caller * 1000 + len(took)
            generate(GenerationParameters(PROMPT, seed, model.configuration.window_s / 4, steps=steps))
            took.append(time.perf_counter() - at)
        return took

    with ThreadPoolExecutor(len(callers)) as threads:
        jobs = [(steps, threads.submit(asks, steps, number)) for number, steps in enumerate(callers)]
        for steps, job in jobs:
            seen.took.setdefault(steps, []).extend(job.result())
    seen.lasted_s += time.perf_counter() - began


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def main() -> None:
    asked = arguments()
    model = random_model(asked)
    print(f"{device_of(model)[0]}, {asked.config}: {asked.short} callers of {SHORT} steps, {asked.long} of {LONG}")
    ways: dict[str, Callable[[], Any]] = {
        "one at a time": lambda: one_at_a_time(model),
        "shared, 1 a pass": lambda: shared(model, 1),
        f"shared, {asked.batch} a pass": lambda: shared(model, asked.batch),
    }
    mixed, alike = {way: Seen() for way in ways}, {(way, n): Seen() for way in ways for n in (1, 2, 4, 8)}
    for _ in range(asked.rounds):
        for way, made in ways.items():
            with made() as generate:
                loaded(model, generate, [SHORT] * asked.short + [LONG] * asked.long, asked.seconds, mixed[way])
                for callers in (1, 2, 4, 8):
                    loaded(model, generate, [ALIKE] * callers, asked.seconds / 5, alike[way, callers])
    first = mixed["one at a time"]
    for way, seen in mixed.items():
        short, long = seen.took[SHORT], seen.took[LONG]
        print(
            f"{way}: {seen.steps_a_second():.1f} steps/s ({seen.steps_a_second() / first.steps_a_second():.2f}x); "
            f"short p50 {statistics.median(short):.2f} s, p95 {percentile(short, 0.95):.2f} s "
            f"({percentile(short, 0.95) / percentile(first.took[SHORT], 0.95):.2f}x); "
            f"long p50 {statistics.median(long):.2f} s, p95 {percentile(long, 0.95):.2f} s "
            f"({percentile(long, 0.95) / percentile(first.took[LONG], 0.95):.2f}x)"
        )
    for callers in (1, 2, 4, 8):
        found = [f"{way} {alike[way, callers].steps_a_second():.1f}" for way in ways]
        print(f"{callers} callers of {ALIKE} steps, steps/s: {'; '.join(found)}")


if __name__ == "__main__":
    main()
