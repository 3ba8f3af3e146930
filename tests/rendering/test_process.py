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
from luthier_kit.rpc import Channel, LuthierError
from luthier_kit.store import StoreSettings, open_store

from .in_workers import within
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


def workers_of(pid: int) -> list[int]:
    children = [int(p) for task in Path(f"/proc/{pid}/task").glob("*/children") for p in task.read_text().split()]
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_workers_end_when_the_service_is_killed(
    service: subprocess.Popen[bytes], environment: dict[str, str], tmp_path: Path
) -> None:
    store = open_store(StoreSettings(store="folder", store_folder=tmp_path / "store"))
    channel = Channel(environment["LUTHIER_ADDRESS"], retry_budget_s=30)
    RenderingServiceStub(channel).ListInstruments(pb.ListInstrumentsRequest(), timeout=30)
    request = pb.RenderSongRequest(midi=store.blobs.put_bytes("midi", LONG, "mid"))

    def ask() -> None:
        once = RenderingServiceStub(Channel(environment["LUTHIER_ADDRESS"], retry_budget_s=0))
        with pytest.raises(LuthierError):
            once.RenderSong(request, timeout=60)

    asking = threading.Thread(target=ask)
    asking.start()
    assert within(20, lambda: list(tmp_path.glob("render-*/worker.step")))
    workers = workers_of(service.pid)
    assert len(workers) == 4  # for two songs at a time, and two files to inspect
    time.sleep(0.5)
    os.kill(service.pid, signal.SIGKILL)
    service.wait()
    assert within(15, lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    asking.join(10)
    channel.close()


@pytest.mark.parametrize(
    ("variable", "value", "code", "said"),
    [
        ("LUTHIER_SOUNDFONT", "/no/such.sf2", 2, "LUTHIER_SOUNDFONT names the file /no/such.sf2"),
        ("LUTHIER_SOUNDFONT", __file__, 2, "test_process.py cannot be loaded"),
        ("LUTHIER_INSTRUMENT_MAP", "/no/such.yaml", 2, "LUTHIER_INSTRUMENT_MAP names the file /no/such.yaml"),
        ("LUTHIER_INSTRUMENT_MAP", __file__, 2, "the instrument map:"),
        ("LUTHIER_VST3_MAP", "/some/map.json", 2, "LUTHIER_VST3_MAP is no longer read: LUTHIER_INSTRUMENT_MAP"),
        ("LUTHIER_STORE_FOLDER", "/dev/null/store", 1, "the artifact folder failed"),
        ("LUTHIER_MAX_SONG_S", "many", 2, "LUTHIER_MAX_SONG_S must be a number"),
    ],
)
def test_what_it_cannot_work_with_stops_it_at_once(
    environment: dict[str, str], variable: str, value: str, code: int, said: str
) -> None:
    command = [sys.executable, "-m", "luthier_rendering"]
    done = subprocess.run(command, check=False, env={**environment, variable: value}, capture_output=True, timeout=60)
    assert done.returncode == code
    assert said in done.stderr.decode()
