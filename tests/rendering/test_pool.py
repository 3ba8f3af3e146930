"""Workers under a real hand: killed, frozen, out of time, abandoned. One song is lost, the next one plays."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from luthier_kit.errors import Cancelled, DeadlineExceeded, FailedPrecondition, Internal, InvalidRequest, Unavailable
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.job import RenderJob, RenderResult
from luthier_rendering.limits import MidiLimits
from luthier_rendering.pool import RenderPool

from .midi_making import control, midi_bytes, notes

LONG = midi_bytes(*[notes([48 + i % 24 for i in range(1400)]) for _ in range(20)])  # 700 s, 20 stems: takes a while
SHORT = midi_bytes(notes([60, 64]))


@pytest.fixture(scope="module")
def pool() -> Iterator[RenderPool]:
    pool = RenderPool(BackendConfig(), workers=1, deadline_s=60, songs_per_worker=50, limits=MidiLimits())
    yield pool
    pool.close()


def job(folder: Path, data: bytes) -> RenderJob:
    folder.mkdir(exist_ok=True)
    (folder / "song.mid").write_bytes(data)
    return RenderJob(str(folder / "song.mid"), str(folder), "soundfont", 1, mix_only=True)


def children() -> list[int]:
    """Process ids of this process's children."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def started(pool: RenderPool, tmp_path: Path) -> tuple[Future[RenderResult], int]:
    """A long song that has begun to play, and the worker that plays it."""
    future = ThreadPoolExecutor(1).submit(pool.render, job(tmp_path / "long", LONG))
    end = time.monotonic() + 20
    while not children() and time.monotonic() < end:
        time.sleep(0.02)
    (pid,) = children()
    time.sleep(1.5)
    assert not future.done()
    return future, pid


def test_a_killed_worker_costs_its_song_and_the_next_one_plays(pool: RenderPool, tmp_path: Path) -> None:
    future, pid = started(pool, tmp_path)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="signal SIGKILL while playing") as lost:
        future.result(10)
    assert lost.value.reason == "RENDER_WORKER_DIED"
    assert pool.render(job(tmp_path / "next", SHORT)).mix == "mix.flac"
    assert children() != [pid]


def test_a_fault_of_our_own_is_internal_and_no_songs_fault(pool: RenderPool, tmp_path: Path) -> None:
    with pytest.raises(Internal, match="exit code 70"):
        pool.render(replace(job(tmp_path / "a", SHORT), backend="no such"))
    assert pool.render(job(tmp_path / "b", SHORT)).mix == "mix.flac"


def test_a_worker_that_cannot_start_is_no_songs_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    pool = RenderPool(BackendConfig(), workers=1, deadline_s=60, songs_per_worker=5, limits=MidiLimits())
    with pytest.raises(Unavailable) as refused:
        pool.render(job(tmp_path / "a", SHORT))
    assert refused.value.reason == "RENDER_WORKER_NOT_STARTED"
    pool.close()


def test_a_worker_that_died_while_idle_costs_nothing(pool: RenderPool, tmp_path: Path) -> None:
    pool.render(job(tmp_path / "a", SHORT))
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert pool.render(job(tmp_path / "b", SHORT)).mix == "mix.flac"


def test_a_frozen_worker_is_ended_at_the_deadline(pool: RenderPool, tmp_path: Path) -> None:
    pool.render(job(tmp_path / "warm", SHORT))
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)  # as a plugin that hangs
    with pytest.raises(DeadlineExceeded, match=r"more than 1 s") as late:
        pool.render(job(tmp_path / "late", SHORT), deadline_s=1.0)
    assert late.value.reason == "RENDER_TOO_SLOW"
    assert pid not in children()
    assert pool.render(job(tmp_path / "next", SHORT)).mix == "mix.flac"


def test_a_caller_that_goes_away_stops_its_song(pool: RenderPool, tmp_path: Path) -> None:
    gone = threading.Event()
    threading.Timer(2.0, gone.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        pool.render(job(tmp_path / "long", LONG), cancelled=gone.is_set)
    assert time.monotonic() - began < 8
    assert pool.render(job(tmp_path / "next", SHORT)).mix == "mix.flac"


def test_a_refused_file_leaves_the_worker_as_it_was(pool: RenderPool, tmp_path: Path) -> None:
    pool.render(job(tmp_path / "a", SHORT))
    before = children()
    with pytest.raises(InvalidRequest) as refusal:
        pool.render(job(tmp_path / "b", midi_bytes([control(7, 0), *notes([60])])))
    assert refusal.value.reason == "MIDI_SILENT"
    assert children() == before


def test_an_instrument_that_cannot_play_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.sf2").write_bytes(b"no soundfont")
    config = BackendConfig(soundfont=str(tmp_path / "broken.sf2"))
    pool = RenderPool(config, workers=1, deadline_s=60, songs_per_worker=5, limits=MidiLimits())
    with pytest.raises(FailedPrecondition, match=r"broken\.sf2") as failure:
        pool.render(job(tmp_path / "a", SHORT))
    assert failure.value.reason == "INSTRUMENT_FAILED"
    pool.close()


def test_workers_of_one_song_render_two_at_once_alike_and_are_replaced(pool: RenderPool, tmp_path: Path) -> None:
    pool.close()
    pool = RenderPool(BackendConfig(), workers=2, deadline_s=60, songs_per_worker=1, limits=MidiLimits())
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda n: pool.render(job(tmp_path / n, SHORT)), ("a", "b")))
    assert children() == []
    assert both[0].mix_loudness_lufs == both[1].mix_loudness_lufs
    assert (tmp_path / "a/mix.flac").read_bytes() == (tmp_path / "b/mix.flac").read_bytes()
