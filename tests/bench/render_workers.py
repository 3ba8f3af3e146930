"""Songs rendered by the service's two workers against a plain `multiprocessing` pool of two: CPU seconds, in turn.

    services/rendering/.venv/bin/python -m tests.bench.render_workers SONG.mid ... [--rounds 3]

Both render the same songs with stems by the same function. The service is a process of its own; it also takes calls,
checks digests, and stores every file and record; the pool leaves its files on scratch. What the ratio holds is the cost
of a call, of the store and of waiting: CPU seconds of all processes, and the time until the last song is done, which
means something only on a machine that does nothing else. The caller and the uploads of songs are not counted.
"""

import argparse
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from luthier.rendering.v1.rendering_pb2 import RenderSongRequest
from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
from luthier_kit.rpc import Channel
from luthier_kit.store import StoreSettings, open_store
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.render import RenderParameters, render_file
from luthier_rendering.smf import MidiLimits

WORKERS = 2
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as in the service's workers
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Spent:
    """CPU seconds and wall clock."""

    cpu_s: float = 0.0
    wall_s: float = 0.0


def cpu_s_of(pid: int) -> float:
    """CPU seconds of a process and all that it began, so far."""
    parents, spent = dict[int, int](), dict[int, float]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
            spent[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS_PER_S
    found = [pid]
    for one in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == one]
    return sum(spent.get(one, 0.0) for one in found)


class Served:
    """The service with two slots, over a store in a folder."""

    def __init__(self, folder: Path) -> None:
        self._store = open_store(StoreSettings(store_folder=folder / "store"))
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        environ = {
            **os.environ, **ALONE, "LUTHIER_STORE_FOLDER": str(folder / "store"), "LUTHIER_SLOTS": str(WORKERS),
            "LUTHIER_SCRATCH": str(self._scratch), "LUTHIER_ADDRESS": "127.0.0.1:7991",
            "LUTHIER_METRICS_ADDRESS": "127.0.0.1:7992", "LUTHIER_LOG_LEVEL": "WARNING",
        }  # fmt: skip
        self.process = subprocess.Popen([sys.executable, "-m", "luthier_rendering"], env=environ)
        self._channel = Channel("127.0.0.1:7991", retry_budget_s=60)
        self._stub = RenderingServiceStub(self._channel)

    def render(self, songs: Sequence[Path], seed: int) -> Spent:
        """Renders songs, as many at once as the command does."""
        midis = [self._store.blobs.put_file("midi", song, "audio/midi") for song in songs]
        requests = [RenderSongRequest(midi=midi, backend="soundfont", seed=seed) for midi in midis]
        before, began = cpu_s_of(self.process.pid), time.monotonic()
        with ThreadPoolExecutor(2 * WORKERS) as pool:
            answers = list(pool.map(lambda request: self._stub.RenderSong(request, timeout=600), requests))
        spent = Spent(cpu_s_of(self.process.pid) - before, time.monotonic() - began)
        assert not any(answer.action.reused for answer in answers)
        return spent

    def close(self) -> None:
        self._channel.close()
        self.process.terminate()
        self.process.wait()


class Pooled:
    """A pool of two processes that stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = multiprocessing.get_context("spawn").Pool(WORKERS)

    def render(self, songs: Sequence[Path], seed: int) -> Spent:
        """Renders songs into folders that go away."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            tasks = [(song, Path(name, f"{number}"), seed) for number, song in enumerate(songs)]
            before, began = self._cpu_s(), time.monotonic()
            self._pool.starmap(render_into, tasks, chunksize=1)
            return Spent(self._cpu_s() - before, time.monotonic() - began)

    def _cpu_s(self) -> float:
        return sum(cpu_s_of(child.pid or 0) for child in multiprocessing.active_children())

    def close(self) -> None:
        self._pool.terminate()


def render_into(song: Path, folder: Path, seed: int) -> None:
    """What a worker of the pool does."""
    folder.mkdir()
    render_file(song, MidiLimits(), BackendConfig(), RenderParameters("soundfont", seed), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ |= ALONE
    with tempfile.TemporaryDirectory() as name:
        both = (Served(Path(name)), Pooled(Path(name)))
        totals = (Spent(), Spent())
        try:
            for number in range(options.rounds + 1):
                for way in (0, 1) if number % 2 else (1, 0):
                    spent = both[way].render(options.songs, seed=number + 1)
                    if number:  # the first round loads what stays loaded
                        totals[way].cpu_s += spent.cpu_s
                        totals[way].wall_s += spent.wall_s
        finally:
            for one in both:
                one.close()
    service, pool = totals
    print(f"{len(options.songs)} songs x {options.rounds}; {os.cpu_count()} cores, {platform.machine()}, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, spent in (("service", service), ("pool", pool)):
        print(f"{name}: {spent.cpu_s:.1f} CPU s, {spent.wall_s:.1f} s")
    by_cpu, by_time = pool.cpu_s / service.cpu_s, pool.wall_s / service.wall_s
    print(f"throughput of the service against the pool: {by_cpu:.3f} per CPU s, {by_time:.3f} by time")


if __name__ == "__main__":
    main()
