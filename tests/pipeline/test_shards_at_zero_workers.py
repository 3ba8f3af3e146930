"""Real shard processes, a real store, and nobody who renders: what the store, the status and the monitor say."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import pytest

from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, PartProgress
from luthier_kit.rpc import load
from luthier_kit.store import FolderStore, Store, StoreSettings, open_store
from luthier_pipeline.corpus import corpus_of, publish, shard_of
from luthier_pipeline.run_status import RunStatusReader, state_name

T = TypeVar("T")
Monitored = tuple[int, subprocess.Popen[str]]
"""Its port, and its process."""
SONGS = 10


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Settings under which no service is there: the ports of loopback address 127.0.0.9 are closed."""
    services = ("RENDERING", "ANALYSIS", "ENRICHMENT", "PROMPTING", "CURATION")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LUTHIER_", "KUBE"))}
    nobody = {f"LUTHIER_{service}_ADDRESS": "127.0.0.9:9" for service in services}
    return {**kept, **nobody, "LUTHIER_STORE": "folder", "LUTHIER_STORE_FOLDER": str(tmp_path / "store")}


@pytest.fixture
def store(environ: dict[str, str]) -> Store:
    return open_store(load(StoreSettings, environ))


@pytest.fixture
def corpus(store: Store) -> None:
    files = [CorpusFile(path=f"{n}.mid", key="midi/0.mid", sha256="0", fingerprint=str(n)) for n in range(SONGS)]
    publish(store, "book", "r1", corpus_of(files, "unknown"), None)


@contextmanager
def luthier(environ: dict[str, str], *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "luthier_pipeline", *arguments],
        env={**environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], T | None | Literal[False]], seconds: float = 60.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.05)
    return found


def shards(store: Store) -> dict[int, PartProgress]:
    return {part.shard.shard: part for run in RunStatusReader(store).runs("book") for part in run.shards}


def state(part: PartProgress) -> str:
    return state_name(part.state)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def metrics(port: int) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.fixture
def monitor(environ: dict[str, str]) -> Iterator[Monitored]:
    port = free_port()
    more = {"LUTHIER_METRICS_ADDRESS": f"127.0.0.1:{port}", "LUTHIER_MONITOR_EVERY_S": "0.1"}
    with luthier(environ, "monitor", **more) as process:
        yield port, process


WAITING = 'luthier_pipeline_work_waiting{stage="rendering"}'


def test_sigterm_notes_that_the_shard_was_interrupted_and_another_pod_goes_on(
    environ: dict[str, str], store: Store, corpus: None, monitor: Monitored
) -> None:
    port, _ = monitor
    until(lambda: metrics(port).get(WAITING) == 0)
    run = ("run", "corpora/book", "--shards", "2", "--in-flight", "2", "--json")
    with luthier(environ, *run, JOB_COMPLETION_INDEX="0") as first:
        mine = until(lambda: shards(store).get(0))
        assert (state(mine), mine.need_render) == ("RUNNING", mine.shard.songs)
        # the other shard has not begun, but where one is alive the others come: all songs need a renderer
        until(lambda: metrics(port).get(WAITING) == SONGS)
        assert metrics(port)['luthier_pipeline_shards{collection="book",state="waiting"}'] == 1
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=30) == 143
    assert state(shards(store)[0]) == "INTERRUPTED"
    until(lambda: metrics(port).get(WAITING) == 0)  # nobody asks for a renderer now
    with luthier(environ, *run, JOB_COMPLETION_INDEX="0"), luthier(environ, *run, JOB_COMPLETION_INDEX="1"):
        until(lambda: [state(part) for part in shards(store).values()] == ["RUNNING"] * 2)
        assert sum(part.shard.songs for part in shards(store).values()) == SONGS
        until(lambda: metrics(port).get(WAITING) == SONGS)


@pytest.mark.parametrize("subsets", ["monophonic", "polyphonic,monophonic"])
def test_a_shard_without_songs_is_done_with_its_solo_clips_while_nobody_renders(
    environ: dict[str, str], store: Store, subsets: str
) -> None:
    song = CorpusFile(path="a.mid", key="midi/0.mid", sha256="0", fingerprint="0")
    publish(store, "book", "r1", corpus_of([song], "unknown"), None)
    empty = 1 - shard_of(song.fingerprint, 2)
    run = ("run", "corpora/book", "--shard", f"{empty}/2", "--subsets", subsets, "--json")
    with luthier(environ, *run) as shard:
        out, err = shard.communicate(timeout=60)
    assert (shard.returncode, json.loads(out)["songs"]) == (0, 0), err
    assert f"shard {empty}/2 has no songs" in err
    assert (state(shards(store)[empty]), shards(store)[empty].need_render) == ("DONE", 0)


def test_a_store_that_is_down_is_unknown_and_never_zero(
    environ: dict[str, str], store: Store, corpus: None, monitor: Monitored
) -> None:
    port, process = monitor
    until(lambda: metrics(port).get(WAITING) == 0)
    assert isinstance(store.objects, FolderStore)
    folder = store.objects._folder
    folder.rename(folder.with_name("gone"))
    down = until(lambda: (found := metrics(port)).get("luthier_monitor_store_up") == 0 and found)
    assert list(down) == ["luthier_monitor_store_up"]
    folder.with_name("gone").rename(folder)
    until(lambda: metrics(port).get(WAITING) == 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        assert answer.status == 200
    process.terminate()
    assert process.wait(timeout=30) == 0


def test_files_that_wait_for_their_inspection_count(
    environ: dict[str, str], store: Store, monitor: Monitored, tmp_path: Path
) -> None:
    port, _ = monitor
    for number in range(3):
        (tmp_path / f"{number}.mid").write_bytes(b"MThd")
    with luthier(environ, "ingest", str(tmp_path), "--collection", "book") as ingest:
        until(lambda: metrics(port).get(WAITING) == 3)
        ingest.send_signal(signal.SIGTERM)
        assert ingest.wait(timeout=30) == 143
    until(lambda: metrics(port).get(WAITING) == 0)


def test_a_shard_that_waits_for_its_manifest_stops_when_ingest_cannot_write_it(
    environ: dict[str, str], store: Store, tmp_path: Path
) -> None:
    with luthier(environ, "run", "corpora/book", "--shard", "0/2", "--submission", "s", "--json") as shard:
        (tmp_path / "empty").mkdir()
        with luthier(environ, "ingest", str(tmp_path / "empty"), "--collection", "book", "--submission", "s") as ingest:
            assert ingest.wait(timeout=60) == 1
        out, err = shard.communicate(timeout=60)
    assert shard.returncode == 1
    assert json.loads(out)["error"]["reason"] == "CORPUS_FAILED"
    assert "FOLDER_EMPTY" in err
