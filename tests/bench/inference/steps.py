"""Seconds per denoising step and realtime factor: `steps.py [--config FILE] [--device cuda] [--steps N] [...]`.

Random weights of a configuration's shape (speed does not depend on the values): the tiny model, or `--config full` for
Stable Audio Open's own shape, for which `--text-encoder` may name a folder with t5-base. A line each, then JSON. With
`--speedups` the same with them beside it, in turn, and the ratio (medians of ROUNDS).
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import luthier_inference  # noqa: F401 - says how torch's threads wait, before torch is imported
from luthier_model import configuration, tiny
from luthier_model.compiled import Speedups, record_cuda
from luthier_model.configuration import Configuration
from luthier_model.generation import GenerationParameters, LoadedModel, decode, denoise, prepare, warm_up
from luthier_model.loading import load

PROMPT = "calm piano in D minor at 90 BPM"
ROUNDS = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="tiny", help="tiny, full, or a model_config.json")
    parser.add_argument("--text-encoder", type=Path, help="folder of the T5 encoder; default = a random small one")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sampler", default="dpmpp-3m-sde")
    parser.add_argument("--seconds", type=float, default=None, help="length; default = the whole window")
    parser.add_argument("--speedups", default="", help="as LUTHIER_SPEEDUPS: compile, cuda-graphs, or both")
    return parser.parse_args()


def known(name: str) -> Configuration:
    if name == "tiny":
        return tiny.configuration()
    return configuration.packaged() if name == "full" else configuration.read(Path(name).read_bytes())


def random_model(asked: argparse.Namespace) -> LoadedModel:
    import torch  # not before luthier_inference

    config = known(asked.config)
    with tempfile.TemporaryDirectory() as folder:
        weights, text = tiny.write_random(config, [PROMPT], Path(folder), seed=1)
        network = load(config, weights, asked.text_encoder or text, asked.device)
    return prepare(network, config, torch.device(asked.device), asked.precision)


def faster(model: LoadedModel, names: str) -> LoadedModel:
    """The same weights with speedups, warm for a request alone; says what that took."""
    how = Speedups("compile" in names, record_cuda if "cuda-graphs" in names else None)
    how.check(model.device.type)
    begun = time.perf_counter()
    found = replace(model, speedups=how)
    shapes = warm_up(found, 1)
    print(f"{names}: {shapes} shapes warm after {time.perf_counter() - begun:.1f} s")
    return found


def device_of(model: LoadedModel) -> tuple[str, Callable[[], None]]:
    """The device in words, and what waits for its queue."""
    import torch  # not before luthier_inference

    if model.device.type == "cuda":
        return torch.cuda.get_device_name(), torch.cuda.synchronize
    return f"cpu, {torch.get_num_threads()} threads", lambda: None


def measured(model: LoadedModel, parameters: GenerationParameters) -> dict[str, Any]:
    """Seconds of one generation, by part."""
    _, wait = device_of(model)
    begun = time.perf_counter()
    last = list(denoise(model, parameters))[-1]
    wait()
    denoised = time.perf_counter()
    decode(model, parameters, last.latents)
    done = time.perf_counter()
    return {
        "guidance_scale": parameters.guidance_scale,
        "steps": parameters.steps,
        "seconds_total": parameters.seconds_total,
        "seconds_per_step": (denoised - begun) / parameters.steps,
        "decode_s": done - denoised,
        "realtime_factor": parameters.seconds_total / (done - begun),
    }


def main() -> None:
    asked = arguments()
    model = random_model(asked)
    models = [model, faster(model, asked.speedups)] if asked.speedups else [model]
    seconds = asked.seconds or model.configuration.window_s
    rows = []
    for scale in (1.0, 7.0):
        first, timed = (
            GenerationParameters(PROMPT, 1, seconds, steps=steps, sampler=asked.sampler, guidance_scale=scale)
            for steps in (2, asked.steps)
        )
        for each in models:
            measured(each, first)
        rows.append(measured(model, timed))
        row = rows[-1]
        print(
            f"guidance {scale:g}: {row['seconds_per_step'] * 1000:.1f} ms a step, decode {row['decode_s']:.2f} s, "
            f"{row['realtime_factor']:.1f} times realtime for {seconds:.1f} s at {asked.steps} steps"
        )
        if asked.speedups:
            took = [[measured(each, timed)["seconds_per_step"] for each in models] for _ in range(ROUNDS)]
            ratios = sorted(fast / plain for plain, fast in took)
            row["speedups_ratio"] = ratios[ROUNDS // 2]
            print(f"  with {asked.speedups}: {ratios[ROUNDS // 2]:.2f} of that ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    where, _ = device_of(model)
    print(json.dumps({"config": asked.config, "device": where, "precision": asked.precision, "measured": rows}))


if __name__ == "__main__":
    main()
