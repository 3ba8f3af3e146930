"""The service as a process of its own: it starts alone, refuses what it cannot work with, and leaves no orphans."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
from luthier_kit.artifacts import open_artifacts
from luthier_kit.client import Client
from luthier_kit.errors import LuthierError
from luthier_kit.settings import StoreSettings

from .midi_making import midi_bytes, notes

LONG = midi_bytes(*[notes([48 + i % 24 for i in range(1400)]) for _ in range(20)])


@pytest.fixture
def environment(tmp_path: Path, unused_port: int) -> dict[str, str]:
    return {
        **os.environ,
        "LUTHIER_ADDRESS": f"127.0.0.1:{unused_port}",
        "LUTHIER_METRICS_ADDRESS": "127.0.0.1:0",
        "LUTHIER_STORE_FOLDER": str(tmp_path / "store"),
        "LUTHIER_SCRATCH": str(tmp_path),
    }


@pytest.fixture
def service(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "luthier_rendering"], env=environment, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def children(pid: int) -> list[int]:
    return [int(p) for task in Path(f"/proc/{pid}/task").glob("*/children") for p in task.read_text().split()]


def within(seconds: float, condition: object) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_workers_end_when_the_service_is_killed(
    service: subprocess.Popen[bytes], environment: dict[str, str], tmp_path: Path
) -> None:
    store = open_artifacts(StoreSettings(store="folder", store_folder=tmp_path / "store"))
    client = Client(environment["LUTHIER_ADDRESS"], RenderingServiceStub)
    client.call("ListInstruments", pb.ListInstrumentsRequest(), timeout_s=30, patience_s=30)
    request = pb.RenderSongRequest(midi=store.put_bytes("midi", LONG, "mid"))

    def ask() -> None:
        with pytest.raises(LuthierError):
            client.call("RenderSong", request, timeout_s=60, patience_s=0)

    asking = threading.Thread(target=ask)
    asking.start()
    assert within(20, lambda: children(service.pid))
    workers = children(service.pid)
    time.sleep(0.5)
    os.kill(service.pid, signal.SIGKILL)
    service.wait()
    assert within(15, lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    asking.join(10)
    client.close()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LUTHIER_SOUNDFONT", "/no/such.sf2", "such.sf2 cannot be loaded"),
        ("LUTHIER_VST3_MAP", "/no/such.json", "No such file"),
        ("LUTHIER_STORE_FOLDER", "/dev/null/store", "cannot start: the artifact folder failed"),
        ("LUTHIER_MAX_SONG_S", "many", "LUTHIER_MAX_SONG_S must be a number"),
    ],
)
def test_what_it_cannot_work_with_stops_it_at_once(
    environment: dict[str, str], variable: str, value: str, said: str
) -> None:
    command = [sys.executable, "-m", "luthier_rendering"]
    done = subprocess.run(command, check=False, env={**environment, variable: value}, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr.decode()
