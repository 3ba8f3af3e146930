"""Threads that are left at once when the command ends early."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def leaving_at_once(pool: ThreadPoolExecutor, close: Callable[[], None]) -> Iterator[ThreadPoolExecutor]:
    """Waits for the pool's work; after an exception nothing is waited for, and `close` ends the calls that run."""
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        close()
        raise
    pool.shutdown()
