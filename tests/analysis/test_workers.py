"""Children that die, overrun or are no longer wanted; the service goes on."""

from luthier_kit.rpc import Cancelled, DeadlineExceeded, FailedPrecondition, QuotaExceeded
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier_analysis.workers import Workers


class Call:
    """As much of a ServicerContext as the workers look at."""

    def __init__(self, left_s: float | None = None) -> None:
        self.left_s = left_s
        self.callbacks: list[Callable[[], object]] = []

    def time_remaining(self) -> float | None:
        return self.left_s

    def add_callback(self, callback: Callable[[], object]) -> bool:
        self.callbacks.append(callback)
        return True


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = Workers(1)
    workers.warm_up()
    yield workers
    workers.close()


def test_a_job_that_kills_one_child_after_another_is_refused_and_the_next_is_done(workers: Workers) -> None:
    with pytest.raises(FailedPrecondition, match="3 worker processes in a row died") as died:
        workers.run(Call(), signal.raise_signal, signal.SIGSEGV)

    assert (died.value.reason, died.value.permanent) == ("ANALYSIS_CRASHED", True)
    assert workers.run(Call(), max, 1, 2) == 2


def test_a_job_whose_children_are_killed_is_not_refused_for_good(workers: Workers) -> None:
    with pytest.raises(QuotaExceeded, match="signal SIGKILL") as killed:
        workers.run(Call(), signal.raise_signal, signal.SIGKILL)

    assert (killed.value.reason, killed.value.permanent) == ("ANALYSIS_KILLED", False)


def test_a_child_that_is_killed_once_costs_its_job_a_second_try(workers: Workers, tmp_path: Path) -> None:
    dies_once = f"import os, pathlib; mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
    dies_once += "if not mark.exists(): mark.touch(); os.abort()"

    workers.run(Call(), exec, dies_once)

    assert (tmp_path / "mark").exists()


def test_a_job_stops_at_the_deadline_of_its_call(workers: Workers) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        workers.run(Call(left_s=0.5), time.sleep, 60)

    assert time.monotonic() - started < 20


def test_a_job_stops_when_its_caller_goes_away(workers: Workers) -> None:
    call = Call()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(workers.run, call, time.sleep, 60)
        time.sleep(0.5)
        call.callbacks[0]()

        with pytest.raises(Cancelled):
            running.result(timeout=20)


def test_what_a_job_raises_arrives(workers: Workers) -> None:
    with pytest.raises(ZeroDivisionError):
        workers.run(Call(), divmod, 1, 0)
