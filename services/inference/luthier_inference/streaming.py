"""Turns work that reports its steps into an iterator of its steps and its result."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")
Event = tuple[int, int, float, float]
Emit = Callable[[int, int, float, float], None]


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Done:
    def __init__(self, result: Any) -> None:
        self.result = result


def produced(
    work: Callable[[Callable[[int, int, float, float], None]], R], stop: threading.Event
) -> Iterator[Event | R]:
    """Runs `work(emit)` in a thread of its own: yields what it emits, then its result; raises what it raises.

    Leaving the iterator early sets `stop` and waits for the work to notice.
    """
    events: SimpleQueue[Event | _Done | _Failed] = SimpleQueue()

    def run() -> None:
        try:
            events.put(_Done(work(lambda *event: events.put(event))))
        except BaseException as error:
            events.put(_Failed(error))

    worker = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="generation")
    worker.start()
    try:
        while not isinstance(event := events.get(), _Done):
            if isinstance(event, _Failed):
                raise event.error
            yield event
        yield event.result
    finally:
        stop.set()
        worker.join()
