"""What a model costs before it makes a sound: time to load it, and the memory of the service.

    services/inference/.venv/bin/python tests/bench/inference/loading.py [--rounds 5] [--width 1024] [--depth 16]

Loading: the service's own loader, from a store in a folder, beside what safetensors takes for the same file: to copy
its tensors into memory, and to map them, which reads nothing yet. They take turns; printed are medians of the seconds
and of the CPU seconds (user and system). The first round reads the file into the system's cache and is not counted.

Start: the service in a process of its own with the tiny model: CPU seconds until it is SERVING with
the model loaded, resident memory then and after a generation, and how much of it is mapped from files (libraries).
"""

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import grpc
import torch
from safetensors.torch import load_file

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.__main__ import build
from luthier_inference.model_cache import Loader
from luthier_inference.served_models import ServedVersion
from luthier_kit.registry import register
from luthier_model import configuration, tiny
from tests.inference.conftest import PROMPT, settings_for, version_of
from tests.model.small import ModelFiles
from tests.support.own_process import in_own_process
from tests.support.services import temp_store


def files_of(folder: Path, width: int, depth: int) -> ModelFiles:
    document = copy.deepcopy(dict(tiny.configuration().document))
    if width:
        document["model"]["diffusion"]["config"] |= {"embed_dim": width, "depth": depth, "num_heads": width // 64}
    known = configuration.check(document)
    weights, text = tiny.write_random(known, [PROMPT], folder, seed=1)
    return ModelFiles(known, weights, text)


def took(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def loading(folder: Path, width: int, depth: int, rounds: int) -> None:
    files = files_of(folder, width, depth)
    with temp_store(folder / "store") as store:
        version = register(store, version_of(store, files, "large"))
        loader = Loader(store, torch.device("cpu"), "float32", None, folder)
        systems: dict[str, Callable[[], object]] = {
            "ours": lambda: loader(ServedVersion(version, files.configuration)),
            "safetensors, copied": lambda: [each.clone() for each in load_file(files.weights).values()],
            "safetensors, mapped": lambda: load_file(files.weights),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
        for number in range(rounds + 1):
            for name, work in systems.items():
                times = took(work)
                if number:
                    found[name].append(times)
    print(f"loading {files.weights.stat().st_size / 2**20:.0f} MiB, medians of {rounds} rounds")
    ours = statistics.median(cpu for cpu, _ in found["ours"])
    for name, times in found.items():
        cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"  {name:20} {cpu:6.2f} CPU s {wall:6.2f} s   ours is {ours / cpu:.2f} of its CPU time")


def memory_of(pid: int) -> str:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    resident, mapped = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "RssFile"))
    return f"{resident:.0f} MiB resident, {mapped:.0f} of them mapped from files"


def start(folder: Path) -> None:
    files = files_of(folder, 0, 0)
    with temp_store(folder / "store") as store:
        register(store, version_of(store, files, "tiny"))
    with in_own_process(build, settings_for(folder, models=("tiny",))) as service:
        ticks = Path(f"/proc/{service.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        print(f"start: {cpu_s:.1f} CPU s; {memory_of(service.pid)}")
        with grpc.insecure_channel(service.address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=8, seed=1))
        print(f"after a generation: {memory_of(service.pid)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--depth", type=int, default=16)
    asked = parser.parse_args()
    for name, work in (
        ("start", start),
        ("loading", lambda folder: loading(folder, asked.width, asked.depth, asked.rounds)),
    ):
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
            work(Path(folder))


if __name__ == "__main__":
    main()
