"""Songs in worker processes: killed, abandoned, refused, two at once. One song pays at most, the next one plays."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier_kit.rpc import Cancelled, DeadlineExceeded, FailedPrecondition, InvalidRequest
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.render import RenderResult

from .in_workers import Renderer, Waiting
from .midi_making import control, midi_bytes, notes

LONG = midi_bytes(*[notes([48 + i % 24 for i in range(300)]) for _ in range(8)])  # 150 s, 8 stems: takes seconds
SHORT = midi_bytes(notes([60, 64]))


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(BackendConfig()) as renderer:
        yield renderer


def render(renderer: Renderer, folder: Path, data: bytes, call: Waiting | None = None) -> RenderResult:
    return renderer.render(folder, data, backend="soundfont", call=call, mix_only=True)


def processes() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


def playing(renderer: Renderer, folder: Path, call: Waiting | None = None) -> tuple[Future[RenderResult], int]:
    """A long song that has begun to play, and the process that plays it."""
    future = ThreadPoolExecutor(1).submit(render, renderer, folder, LONG, call)
    end = time.monotonic() + 20
    step = folder / "worker.step"
    while not (step.exists() and "playing" in step.read_text()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not future.done()
    return future, int(step.read_text().split()[0])


def test_a_killed_worker_costs_its_song_a_second_try_and_the_next_one_plays(renderer: Renderer, tmp_path: Path) -> None:
    future, pid = playing(renderer, tmp_path / "long")
    os.kill(pid, signal.SIGKILL)
    assert future.result(60).mix.exists()
    assert render(renderer, tmp_path / "next", SHORT).mix.exists()
    assert pid not in processes()


def test_a_fault_of_our_own_is_raised_and_no_songs_fault(renderer: Renderer, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no such"):
        renderer.render(tmp_path / "a", SHORT, backend="no such")
    assert render(renderer, tmp_path / "b", SHORT).mix.exists()


def test_a_song_that_takes_too_long_is_ended_and_what_was_played_is_named(renderer: Renderer, tmp_path: Path) -> None:
    render(renderer, tmp_path / "warm", SHORT)
    with pytest.raises(DeadlineExceeded, match=r"the song took more than 0\.5 s .* while playing Acoustic Grand Piano"):
        render(renderer, tmp_path / "late", LONG, Waiting(left_s=0.5))
    assert render(renderer, tmp_path / "next", SHORT).mix.exists()


def test_a_caller_that_goes_away_stops_its_song(renderer: Renderer, tmp_path: Path) -> None:
    call = Waiting()
    future, pid = playing(renderer, tmp_path / "long", call)
    call.leave()
    with pytest.raises(Cancelled):
        future.result(10)
    assert pid not in processes()
    assert render(renderer, tmp_path / "next", SHORT).mix.exists()


def test_a_refused_file_leaves_the_worker_as_it_was(renderer: Renderer, tmp_path: Path) -> None:
    render(renderer, tmp_path / "a", SHORT)
    before = processes()
    with pytest.raises(InvalidRequest) as refusal:
        render(renderer, tmp_path / "b", midi_bytes([control(7, 0), *notes([60])]))
    assert (refusal.value.reason, refusal.value.violations[0][0]) == ("MIDI_SILENT", "midi")
    assert processes() == before


def test_an_instrument_that_cannot_play_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.sf2").write_bytes(b"no soundfont")
    with (
        Renderer(BackendConfig(soundfont=str(tmp_path / "broken.sf2"))) as renderer,
        pytest.raises(FailedPrecondition, match=r"broken\.sf2") as failure,
    ):
        render(renderer, tmp_path / "a", SHORT)
    assert failure.value.reason == "INSTRUMENT_FAILED"


def test_workers_of_one_song_render_two_at_once_alike_and_are_replaced(tmp_path: Path) -> None:
    with Renderer(BackendConfig(), count=2, songs_per_worker=1) as renderer, ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda name: render(renderer, tmp_path / name, SHORT), ("a", "b")))
    pids = {(tmp_path / name / "worker.step").read_text().split()[0] for name in ("a", "b")}
    assert len(pids) == 2
    assert both[0].mix_loudness_lufs == both[1].mix_loudness_lufs
    assert both[0].mix.read_bytes() == both[1].mix.read_bytes()
