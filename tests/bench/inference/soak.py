"""Mixed requests for a while: answers are right, callers that leave hurt nobody, memory stays flat.

    services/inference/.venv/bin/python tests/bench/inference/soak.py [--minutes 20] [--callers 6]

The service in a process of its own, with the tiny model and two adapters. Callers ask at random for 2 to 60 steps,
lengths, guidance, samplers, adapters and formats, each with a new seed, and leave a quarter of their streams at some
step. One answer in `--check-every` is asked for again of a second service, which does one thing at a time: the audio
must agree to AGREE of its peak, and so must its length. Printed each minute: answers, callers that left, refusals
(`SLOTS_BUSY` is an answer, anything else is not), resident memory. It fails on a wrong answer, on another error, and
where the memory of the last quarter is more than GROWTH above that of the second.
"""

import argparse
import io
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[3]))

import grpc
import numpy as np
import soundfile

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ADAPTER_KIND_LORA, ModelAdapter
from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.__main__ import build
from luthier_kit.registry import register
from luthier_kit.store import Store
from tests.inference.conftest import PROMPT, settings_for, version_of
from tests.model.small import ModelFiles, adapter_over, small_model
from tests.support.own_process import in_own_process
from tests.support.services import temp_store

AGREE: Final = 1e-3
GROWTH: Final = 0.02
MODELS: Final = ("tiny", "tiny", "tiny", "tiny+lora", "tiny+dora:0.6", "tiny+lora:0.5+dora:-0.3")
FORMATS: Final = (pb.OUTPUT_FORMAT_FLAC, pb.OUTPUT_FORMAT_WAV, pb.OUTPUT_FORMAT_FLAC_24)
BUSY: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)

Stub = inference_pb2_grpc.InferenceServiceStub


def registered(store: Store, files: ModelFiles, folder: Path) -> None:
    """The model and its adapters, the same in each store."""
    base = version_of(store, files, "tiny")
    register(store, base)
    for kind, number in (("lora", ADAPTER_KIND_LORA), ("dora", ADAPTER_KIND_DORA)):
        ref = store.blobs.put_file("checkpoints", adapter_over(files, base.digest, folder, kind, 0.05))
        adapter = ModelAdapter(artifact=ref, kind=number, rank=3, alpha=6, targets=["attention"])
        register(store, replace(base, name=kind, adapters=(adapter,)))


def asked(draw: random.Random) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        prompt=f"{PROMPT}, {draw.choice(('calm', 'loud', 'slow'))}",
        seconds_total=draw.uniform(0.3, 6.0),
        steps=draw.choice((2, 4, 8, 8, 8, 60)),
        guidance_scale=draw.choice((1.0, 4.0)),
        sampler=draw.choice(("dpmpp-3m-sde", "dpmpp-2m-sde")),  # k-heun in two steps magnifies rounding 10,000 times
        seed=draw.getrandbits(64),
        model=draw.choice(MODELS),
        output_format=draw.choice(FORMATS),
        fit_window=draw.random() < 0.2,
        inline_audio=True,
    )


class Soak:
    """Callers of one service, some of whose answers are checked by another."""

    def __init__(self, stub: Stub, alone: Stub, check_every: int, ends: float) -> None:
        self.stub, self.alone, self.check_every, self.ends = stub, alone, check_every, ends
        self.told: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock, self._checking = threading.Lock(), threading.Lock()

    def call(self, seed: int) -> None:
        """One caller until the end."""
        draw = random.Random(seed)
        while time.monotonic() < self.ends:
            request = asked(draw)
            try:
                if draw.random() < 0.25:
                    self._leave(request, draw)
                    continue
                response = self.stub.Generate(request, timeout=300)
            except grpc.RpcError as error:
                if error.code() not in BUSY:
                    self.wrong.append(f"{error.code()}: {error.details()}"[:300])
                self._count("refused")
                time.sleep(draw.uniform(0.05, 0.3))
                continue
            if self._count("answered") % self.check_every == 0:
                self._check(request, response)

    def _leave(self, request: pb.GenerateRequest, draw: random.Random) -> None:
        """A stream that is left at some step, or just before the first."""
        stream = self.stub.StreamGenerate(pb.StreamGenerateRequest(request=request), timeout=300)
        for number, _ in enumerate(stream):
            if number >= draw.randrange(request.steps + 1):
                break
        stream.cancel()
        self._count("left")

    def _check(self, request: pb.GenerateRequest, response: pb.GenerateResponse) -> None:
        with self._checking:
            expected = self.alone.Generate(request, timeout=300)
        found, wanted = (soundfile.read(io.BytesIO(each.inline_audio))[0] for each in (response, expected))
        if found.shape != wanted.shape or np.abs(found - wanted).max() > AGREE * max(np.abs(wanted).max(), 0.01):
            apart = np.abs(found - wanted).max() if found.shape == wanted.shape else f"{found.shape} {wanted.shape}"
            self.wrong.append(f"apart by {apart}: {request}")
        self._count("checked")

    def _count(self, what: str) -> int:
        with self._lock:
            self.told[what] += 1
            return self.told[what]


def resident_mib(pid: int) -> float:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--callers", type=int, default=6)
    parser.add_argument("--check-every", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name, ExitStack() as running:
        folder = Path(name)
        files, addresses, pids = small_model(folder), [], []
        for each, batch in (("shared", 4), ("alone", 1)):
            (folder / each).mkdir()
            settings = settings_for(folder / each, models=("tiny",), batch=batch, slots=4 if batch > 1 else 1, queue=2)
            with temp_store(folder / each / "store") as store:
                registered(store, files, folder / each)
            process = running.enter_context(in_own_process(build, settings))
            addresses.append(running.enter_context(grpc.insecure_channel(process.address)))
            pids.append(process.pid)
        ends = time.monotonic() + 60 * options.minutes
        soak = Soak(Stub(addresses[0]), Stub(addresses[1]), options.check_every, ends)
        memory: list[float] = []
        with ThreadPoolExecutor(options.callers) as callers:
            calls = [callers.submit(soak.call, seed) for seed in range(options.callers)]
            said = time.monotonic()
            while time.monotonic() < ends and not any(each.done() and each.exception() for each in calls):
                time.sleep(2)
                memory.append(resident_mib(pids[0]))
                if time.monotonic() - said >= 60:
                    said = time.monotonic()
                    print(f"{dict(soak.told)}, {memory[-1]:.0f} MiB, {len(soak.wrong)} wrong", flush=True)
            for each in calls:
                each.result()
        quarter = len(memory) // 4
        second, last = (statistics.median(part) for part in (memory[quarter : 2 * quarter], memory[-quarter:]))
        print(f"{dict(soak.told)}; memory {second:.0f} MiB in the second quarter, {last:.0f} in the last")
        for text in soak.wrong[:10]:
            print("wrong:", text)
        if soak.wrong or last > second * (1 + GROWTH):
            raise SystemExit("it did not hold")


if __name__ == "__main__":
    main()
