"""Supervised processes that die, hang, print, overrun or are no longer wanted: one job pays at most, the rest go on."""

import logging
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier_kit.rpc import Cancelled, DeadlineExceeded, FailedPrecondition, QuotaExceeded, Unavailable
from luthier_kit.workers import Reasons, Workers

REASONS = Reasons("piece", "CRASHED", "KILLED", "TOO_SLOW", "NOT_STARTED")


class Call:
    """As much of a ServicerContext as the workers look at."""

    def __init__(self, left_s: float | None = None) -> None:
        self.left_s = left_s
        self.ended: list[Callable[[], object]] = []

    def time_remaining(self) -> float | None:
        return self.left_s

    def add_callback(self, callback: Callable[[], object]) -> bool:
        self.ended.append(callback)
        return True


def made(count: int = 1, *, jobs_per_worker: int = 100, preload: tuple[str, ...] = ()) -> Workers:
    return Workers(count, REASONS, max_job_s=60, jobs_per_worker=jobs_per_worker, preload=preload)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = made()
    workers.start()
    yield workers
    workers.close()


def processes(parent: int = os.getpid()) -> list[int]:
    """Ids of the worker processes of a process."""
    children = [int(p) for task in Path(f"/proc/{parent}/task").glob("*/children") for p in task.read_text().split()]
    return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def within(seconds: float, condition: Callable[[], object]) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def before(workers: Workers, tmp_path: Path) -> list[int]:
    """The processes there are once the module's pool has replaced those that died in the test before."""
    pid = workers.run(None, tmp_path, os.getpid)
    assert within(10, lambda: processes() == [pid])
    return [pid]


def test_a_job_returns_what_it_returns_and_raises_what_it_raises(workers: Workers, tmp_path: Path) -> None:
    assert workers.run(None, tmp_path, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        workers.run(None, tmp_path, divmod, 1, 0)


def test_an_error_that_cannot_travel_arrives_as_text_and_breaks_nothing(
    workers: Workers, tmp_path: Path, before: list[int]
) -> None:
    with pytest.raises(RuntimeError, match="Odd: lost"):
        workers.run(None, tmp_path, exec, "class Odd(Exception): pass\nraise Odd('lost')")
    assert within(5, lambda: processes() == before)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("signal.raise_signal(signal.SIGSEGV)", "signal SIGSEGV"),
        ("os._exit(3)", "exit code 3"),
        ("os._exit(0)", "exit code 0"),
    ],
)
def test_a_job_that_crashes_one_process_after_another_is_refused_for_good(
    workers: Workers, tmp_path: Path, end: str, told: str
) -> None:
    job = f"import os, signal; from luthier_kit.workers import step; step('playing the fool'); {end}"
    with pytest.raises(
        FailedPrecondition, match=f"3 worker processes in a row .*{told} while playing the fool"
    ) as died:
        workers.run(None, tmp_path, exec, job)
    assert (died.value.reason, died.value.permanent) == ("CRASHED", True)
    assert workers.run(None, tmp_path, max, 1, 2) == 2


def test_a_job_whose_processes_are_killed_is_not_refused_for_good(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(QuotaExceeded, match="signal SIGKILL") as killed:
        workers.run(None, tmp_path, signal.raise_signal, signal.SIGKILL)
    assert (killed.value.reason, killed.value.permanent) == ("KILLED", False)


def test_a_process_that_dies_once_costs_its_job_a_second_try(workers: Workers, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    dies_once = f"import os, pathlib; mark = pathlib.Path({str(mark)!r})\n"
    dies_once += "if not mark.exists(): mark.touch(); os.abort()"
    workers.run(None, tmp_path, exec, dies_once)
    assert mark.exists()


def test_a_process_that_dies_while_idle_costs_nothing(workers: Workers, tmp_path: Path) -> None:
    for _ in range(2):
        workers.run(None, tmp_path, max, 1, 2)
        (pid,) = processes()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
    assert workers.run(None, tmp_path, max, 1, 2) == 2


def test_a_job_stops_at_the_deadline_of_its_call(workers: Workers, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"the piece took more than 0\.5 s and was ended while starting") as late:
        workers.run(Call(left_s=0.5), tmp_path, time.sleep, 60)
    assert late.value.reason == "TOO_SLOW"
    assert time.monotonic() - started < 10


def test_a_call_whose_time_is_up_starts_nothing(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded, match="before it began"):
        workers.run(Call(left_s=0.0), tmp_path, (tmp_path / "mark").touch)
    assert not (tmp_path / "mark").exists()


def test_a_frozen_process_is_ended_at_the_deadline(workers: Workers, tmp_path: Path) -> None:
    workers.run(None, tmp_path, max, 1, 2)
    (pid,) = processes()
    with pytest.raises(DeadlineExceeded):
        workers.run(Call(left_s=1.0), tmp_path, os.kill, pid, signal.SIGSTOP)
    assert pid not in processes()
    assert workers.run(None, tmp_path, max, 1, 2) == 2


def test_when_the_caller_goes_away_the_process_has_ended_before_the_call_does(workers: Workers, tmp_path: Path) -> None:
    call = Call()
    workers.run(None, tmp_path, max, 1, 2)
    (pid,) = processes()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(workers.run, call, tmp_path, time.sleep, 60)
        time.sleep(0.5)
        call.ended[0]()
        with pytest.raises(Cancelled):
            running.result(timeout=20)
    assert pid not in processes()


def test_what_a_job_prints_is_bounded_kept_from_our_output_and_logged_when_it_dies(
    workers: Workers, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    flood = "import os, sys, time\n"
    flood += "for _ in range(3000): print('x' * 1000, file=sys.stderr); print('y' * 1000, flush=True)\n"
    flood += "time.sleep(1); print('last words', file=sys.stderr, flush=True); os.abort()"
    with caplog.at_level(logging.ERROR), pytest.raises(FailedPrecondition):
        workers.run(None, tmp_path, exec, flood)
    assert (tmp_path / "worker.stderr").stat().st_size < 1 << 20
    assert "last words" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_process_is_replaced_after_its_jobs_and_two_work_at_once(tmp_path: Path, before: list[int]) -> None:
    workers = made(2, jobs_per_worker=1)
    workers.start()
    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: workers.run(None, tmp_path, time.sleep, 3), range(2)))
    took_s = time.monotonic() - began
    pids = {workers.run(None, tmp_path, os.getpid) for _ in range(3)}
    workers.close()
    assert len(pids) == 3
    assert took_s < 5.8
    assert within(5, lambda: processes() == before)


def slow_to_import(folder: Path, seconds: float) -> str:
    """A module that takes this long to import, on the path of the processes."""
    (folder / "slow_to_import.py").write_text(f"import time\ntime.sleep({seconds})\n")
    return "slow_to_import"


def test_a_job_waits_for_processes_that_take_long_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processes that import for 8 s on one core are there after a minute."""
    monkeypatch.setattr("luthier_kit.workers._START_DEADLINE_S", 2.0)
    monkeypatch.syspath_prepend(tmp_path)
    workers = made(preload=(slow_to_import(tmp_path, 2.5),))
    assert workers.run(None, tmp_path, max, 1, 2) == 2
    workers.close()


def test_a_job_that_waits_for_a_process_does_not_end_the_jobs_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[int]
) -> None:
    workers = made()
    workers.start()
    monkeypatch.setattr("luthier_kit.workers._START_DEADLINE_S", 1.0)
    time.sleep(1.0)  # the process is no longer a starting one
    with ThreadPoolExecutor(1) as threads:
        (tmp_path / "long").mkdir()
        long_one = threads.submit(workers.run, None, tmp_path / "long", time.sleep, 4)
        time.sleep(0.5)
        (pid,) = set(processes()) - set(before)
        assert workers.run(None, tmp_path, os.getpid) == pid
        long_one.result(timeout=1)
    workers.close()


def test_processes_that_never_come_to_take_a_job_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier_kit.workers._START_DEADLINE_S", 0.5)
    monkeypatch.syspath_prepend(tmp_path)
    workers = made(preload=(slow_to_import(tmp_path, 3600),))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no worker process takes a job"):
        workers.run(None, tmp_path, max, 1, 2)
    workers.close()
    assert time.monotonic() - began < 20


def test_a_process_that_cannot_start_is_no_jobs_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    workers = made()
    with pytest.raises(Unavailable) as refused:
        workers.run(None, tmp_path, max, 1, 2)
    with pytest.raises(Unavailable):
        workers.start()
    workers.close()
    assert refused.value.reason == "NOT_STARTED"


def test_closing_ends_the_jobs_that_run(tmp_path: Path, before: list[int]) -> None:
    workers = made()
    workers.start()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(workers.run, None, tmp_path, time.sleep, 60)
        time.sleep(0.5)
        workers.close()
        with pytest.raises(Unavailable):
            running.result(timeout=20)
    assert within(5, lambda: processes() == before)


def test_processes_import_what_is_preloaded(tmp_path: Path) -> None:
    workers = made(preload=("wave",))
    imported = "import sys; assert 'wave' in sys.modules"
    workers.run(None, tmp_path, exec, imported)
    workers.close()


def test_processes_end_when_their_service_is_killed(tmp_path: Path) -> None:
    service = (
        "from luthier_kit.workers import Reasons, Workers; import pathlib, time\n"
        "if __name__ == '__main__':\n"
        "  workers = Workers(2, Reasons('a', 'B', 'C', 'D', 'E'), max_job_s=60, jobs_per_worker=9)\n"
        f"  workers.run(None, pathlib.Path({str(tmp_path)!r}), time.sleep, 60)\n"
    )
    (tmp_path / "service.py").write_text(service)
    process = subprocess.Popen([sys.executable, str(tmp_path / "service.py")])
    assert within(20, lambda: len(processes(process.pid)) == 2 and (tmp_path / "worker.step").exists())
    pids = processes(process.pid)
    process.kill()
    process.wait()
    assert within(10, lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_many_jobs_from_many_threads_all_end(tmp_path: Path) -> None:
    workers = made(2, jobs_per_worker=7)
    done: list[int] = []
    lock = threading.Lock()

    def one(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        value = workers.run(None, folder, max, number, -1)
        with lock:
            done.append(value)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, range(60)))
    workers.close()
    assert sorted(done) == list(range(60))
