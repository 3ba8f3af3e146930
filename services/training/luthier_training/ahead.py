"""Work that a thread does beside its caller: what is needed next, and what need not be waited for."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
DEPTH: Final = 2
"""Results that wait, at most, beside the one that is made."""


def ahead(make: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """What `make` makes of each item, in order. One thread makes it, up to DEPTH items before it is asked for.

    An error of `make` is raised where its result would have come. Closing the iterator ends the thread.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > DEPTH:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Beside:
    """Work that is not waited for, one piece at a time. What follows from it is done by the caller's own thread.

    As a context it waits for the last piece at its end, also where the block raises: then a failure of the work is a
    warning, and the block's error is what is raised.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
        self._begun: tuple[Future[Any], Callable[[Any], None]] | None = None

    def __enter__(self) -> "Beside":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        except Exception:
            if error is None:
                raise
            log.warning("what was begun beside it failed, too", exc_info=True)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, work: Callable[[], Result], then: Callable[[Result], None]) -> None:
        """Begins `work`, once the piece before it is done; `then` takes its result, in `poll` or `finish`."""
        self.finish()
        self._begun = self._pool.submit(work), then

    def poll(self) -> None:
        """Hands over what is done. Raises what the work raised."""
        if self._begun and self._begun[0].done():
            self.finish()

    def finish(self) -> None:
        """Waits for the work, and hands it over. Raises what the work raised."""
        if self._begun:
            (future, then), self._begun = self._begun, None
            then(future.result())
