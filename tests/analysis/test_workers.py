"""Children that die, overrun or are no longer wanted; the service goes on."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from luthier_analysis.workers import Workers
from luthier_kit.errors import Cancelled, DeadlineExceeded, Unavailable


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


def test_a_child_that_is_killed_is_replaced(workers: Workers) -> None:
    with pytest.raises(Unavailable, match="died") as died:
        workers.run(Call(), signal.raise_signal, signal.SIGKILL)

    assert died.value.reason == "WORKER_DIED"
    assert workers.run(Call(), max, 1, 2) == 2


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
