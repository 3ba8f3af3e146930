"""Publishes how far a process of a run is, every few seconds, for `luthier status` and the monitor.

A run has one series for its ingest and one for each shard: `runs/pipeline-<collection>/<run>/ingest/<n>.json` and
`runs/pipeline-<collection>/<run>/<i>-of-<N>/<n>.json`; the newest entry is the state. As with heartbeats, what lies two
entries back is deleted by the one who writes.
"""

import logging
import socket
import threading
import time
from types import TracebackType
from typing import Any

from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import LuthierError

log = logging.getLogger(__name__)
NOTE_EVERY_S = 4.0
LAST_WORD_S = 8.0  # an interrupted process has little time left: a store that does not answer is not waited for
RUNNING, DONE, FAILED, INTERRUPTED = "RUNNING", "DONE", "FAILED", "INTERRUPTED"
ROOT = "runs/pipeline-"
INGEST = "ingest"


def series_of(collection: str, run: str, part: str) -> str:
    """The series of a part of a run: INGEST, or a shard's name."""
    return f"{ROOT}{collection}/{run}/{part}"


class Diary:
    """Says at once that a part of a run began, then where it is, and at last how it ended.

    A context manager: leaving it by an exception notes INTERRUPTED (Ctrl-C, SIGTERM) or FAILED with the reason. While
    the store does not answer, nothing is said and the work goes on.
    """

    def __init__(self, store: Artifacts, collection: str, run: str, part: str, **facts: Any) -> None:
        self.store = store
        self.series = series_of(collection, run, part)
        self._facts = {"collection": collection, "run": run, "part": part, "host": socket.gethostname(), **facts}
        self._facts |= {"state": RUNNING, "began_at": time.time()}
        self._number = 0
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._publish, name="diary", daemon=True)

    def tell(self, **facts: Any) -> None:
        """Where the work is; said with the next entry. `facts` replace those of the same name."""
        self._facts = {**self._facts, **facts}

    def end(self) -> None:
        """The last entry: DONE. Raises LuthierError when the store does not take it."""
        self.tell(state=DONE)
        self._ended.set()
        self._append()

    def __enter__(self) -> "Diary":
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, LuthierError):
            self._last_word(state=FAILED, reason=error.reason, message=str(error))
        elif isinstance(error, KeyboardInterrupt):
            self._last_word(state=INTERRUPTED)
        elif error:
            self._last_word(state=FAILED, reason="INTERNAL", message=type(error).__name__)
        self._ended.set()

    def _publish(self) -> None:
        while not self._ended.is_set():
            try:
                self._append(going=True)
            except LuthierError as error:
                log.warning("progress was not published: %s", error)
            self._ended.wait(NOTE_EVERY_S)

    def _append(self, *, going: bool = False) -> None:
        with self._writing:
            if going and self._ended.is_set():
                return
            self._number = self.store.append(self.series, {**self._facts, "at": time.time()}, after=self._number)
            if self._number > 2:
                self.store.objects.delete(f"{self.series}/{self._number - 2}.json")

    def _last_word(self, **facts: Any) -> None:
        self.tell(**facts)
        self._ended.set()
        word = threading.Thread(target=self._quietly, daemon=True)
        word.start()
        word.join(LAST_WORD_S)

    def _quietly(self) -> None:
        try:
            self._append()
        except LuthierError as error:
            log.warning("the end was not published: %s", error)
