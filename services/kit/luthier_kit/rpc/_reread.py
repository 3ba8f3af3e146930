"""Values read from files that may be replaced while the program runs: mounted Secrets, rotated certificates."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOK_EVERY_S = 1.0


class Reread(Generic[T]):
    """Call it for the value: read once at the start, and again when one of `paths` was changed. Thread-safe.

    The first reading raises what `read` raises. A later one that fails (half a pair was replaced) is logged, and the
    value before it stays.
    """

    def __init__(self, paths: Callable[[], Iterable[Path]], read: Callable[[], T]) -> None:
        self._paths, self._read = paths, read
        self._lock = threading.Lock()
        self._state = self._look()
        self._looked = time.monotonic()
        self._value = read()

    def __call__(self) -> T:
        with self._lock:
            if time.monotonic() >= self._looked + LOOK_EVERY_S:
                self._looked = time.monotonic()
                self._refresh()
            return self._value

    def _refresh(self) -> None:
        try:
            state = self._look()
            if state == self._state:
                return
            self._value = self._read()
        except (OSError, ValueError) as error:
            log.error("changed files cannot be read, what was read before stays: %s", error)
            return  # looked at again, for the rest may be on its way
        self._state = state  # from before the reading: a change in the middle of it is seen next time

    def _look(self) -> list[tuple[Path, int, int, int]]:
        return [(path, *_mark(path)) for path in self._paths()]


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
