"""The clients in the README run as they stand, in a process of their own that knows only grpcio and the stubs."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from luthier.inference.v1 import inference_pb2 as pb

from .conftest import Served, long_job, request

README = Path(__file__).parents[2] / "services/inference/README.md"
CLIENTS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("client", CLIENTS, ids=["unary", "stream"])
def test_a_client_by_copy_and_paste_gets_its_audio(served: Served, client: str, tmp_path: Path) -> None:
    # the tiny test model is quick and its window short: the only things that are changed
    code = client.replace("127.0.0.1:7107", served.address).replace("seconds_total=10", "seconds_total=3")
    code = code.replace("seed=1", "seed=1, steps=3")

    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)

    assert (tmp_path / "calm.flac").read_bytes()[:3] == b"ID3"  # credentials go before the stream


def test_the_client_is_fourteen_lines() -> None:
    assert len([line for line in CLIENTS[0].splitlines() if line.strip()]) == 14


def test_the_client_comes_back_when_there_is_a_place(crowded: Served, tmp_path: Path) -> None:
    code = CLIENTS[0].replace("127.0.0.1:7107", crowded.address).replace("seconds_total=10, seed=1", "steps=3, seed=1")
    with long_job(crowded):
        waiting = crowded.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(seed=2)))
        next(iter(waiting))  # the only place to wait is taken
        before = refused()
        client = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
        while refused() == before:
            assert client.poll() is None
            time.sleep(0.02)
        waiting.cancel()  # type: ignore[no-untyped-call]

    assert client.wait(timeout=60) == 0
    assert (tmp_path / "calm.flac").read_bytes()[:3] == b"ID3"  # credentials go before the stream


def refused() -> float:
    """Calls that found no place so far."""
    labels = {"service": "luthier.inference.v1.InferenceService"}
    return REGISTRY.get_sample_value("luthier_work_refused_total", labels) or 0.0
