"""Milliseconds of a stored answer and of a refusal, idle and while the device works: `stored.py [--calls N]`.

A service in this process with a tiny model of random weights, over gRPC on loopback; its client is in the process, too.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import grpc

from luthier.inference.v1 import inference_pb2 as pb
from luthier_model import tiny
from tests.inference.conftest import long_job, serving
from tests.model.small import ModelFiles

PROMPT = "calm piano"


def milliseconds(call: Callable[[], object], calls: int) -> str:
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        try:
            call()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
        took.append((time.perf_counter() - began) * 1000)
    return f"median {statistics.median(took):.1f} ms, longest {max(took):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as name:
        folder, configuration = Path(name), tiny.configuration()
        weights, text = tiny.write_random(configuration, [PROMPT], folder, seed=1)
        with serving(ModelFiles(configuration, weights, text), folder) as served:
            stored, bad = pb.GenerateRequest(prompt=PROMPT, steps=2, seed=1), pb.GenerateRequest(prompt="")
            served.stub.Generate(stored)
            for state in ("idle", "busy"):
                if state == "busy":
                    with long_job(served):
                        told = [milliseconds(lambda ask=ask: served.stub.Generate(ask), calls) for ask in (stored, bad)]
                else:
                    told = [milliseconds(lambda ask=ask: served.stub.Generate(ask), calls) for ask in (stored, bad)]
                print(f"{state}: a stored answer {told[0]}; a refusal {told[1]}")


if __name__ == "__main__":
    main()
