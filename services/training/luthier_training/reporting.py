"""How a runner tells what it does, and hears that it should stop."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Any

from luthier_kit.errors import LuthierError
from luthier_kit.heartbeat import EXPIRY_S
from luthier_kit.runs import RunLog

log = logging.getLogger(__name__)
BEAT_S = EXPIRY_S / 4
POLL_S = 1.0
LEAVE_S = 600.0
"""How long the heart beats on once the run should stop: a step, a validation and the storing of a large checkpoint take
less, and a runner that hangs must not keep a cancelled run for ever.
"""
SHORTEST_PAUSE_S, SHARE_OF_ELAPSED = 1.0, 0.01
"""Events come at most once a second, and ever more rarely in long runs: some hundreds in all."""


class Stopped(Exception):
    """Someone cancelled the run, this process was told to go, or it has followed to the end."""


class RankLost(Exception):
    """Another rank of the run died; torchrun ends this one soon."""


def fail(record: RunLog, error: LuthierError) -> None:
    """Ends a run with an error and its status code."""
    record.progress(error_code=error.code.value[0])
    record.fail(error.reason, str(error))


class Reporter:
    """Progress of one run. `going` is False once it should stop; `cancelled` tells why."""

    def __init__(self, own: RunLog, watched: RunLog) -> None:
        self._log, self._watched = own, watched
        self._began = self._stage_began = time.monotonic()
        self._due, self._done_at_stage = 0.0, 0
        self._facts: dict[str, Any] = {}
        self._leave_by, self._closed, self.cancelled = math.inf, threading.Event(), False
        self.last_checkpoint: dict[str, Any] | None = dict(own.read().progress.get("checkpoint") or {}) or None
        self._thread = threading.Thread(target=self._attend, daemon=True, name="heartbeat")
        self._thread.start()

    @property
    def going(self) -> bool:
        return self._leave_by == math.inf

    def stop(self) -> None:
        """Ask the run to stop after its next checkpoint (SIGTERM). The heart beats on until that is stored."""
        self._leave_by = min(self._leave_by, time.monotonic() + LEAVE_S)

    def close(self) -> None:
        """The attempt is over: no beat comes after this."""
        self._closed.set()
        self._thread.join()

    def check(self) -> None:
        """Raises Stopped when it should stop."""
        if not self.going:
            raise Stopped

    def stage(self, name: str, total: int = 0, done: int = 0) -> None:
        """A new stage begins, `done` of `total` already there."""
        self._stage_began, self._done_at_stage, self._due = time.monotonic(), done, 0.0
        self.tell(stage=name, done=done, total=total, eta_s=None)
        self.check()

    def advance(self, done: int, total: int, **facts: Any) -> None:
        """Progress within a stage; written when an event is due."""
        self._facts.update(facts, done=done, total=total, eta_s=self._eta_s(done, total))
        if time.monotonic() >= self._due or done == total:
            self.tell()

    def tell(self, **facts: Any) -> None:
        """Write an event now."""
        self._facts.update(facts)
        told, self._facts = self._facts, {}
        self._log.progress(**told)
        now = time.monotonic()
        self._due = now + max(SHORTEST_PAUSE_S, SHARE_OF_ELAPSED * (now - self._began))

    def checkpoint(self, ref: dict[str, Any], step: int) -> None:
        """A checkpoint is stored: write it down now."""
        self.tell(checkpoint=ref, checkpoint_step=step)
        self.last_checkpoint = ref

    def _eta_s(self, done: int, total: int) -> float | None:
        fresh = done - self._done_at_stage
        if fresh <= 0:
            return None
        return round((time.monotonic() - self._stage_began) / fresh * (total - done), 1)

    def _attend(self) -> None:
        """Beats, and looks for a cancel event or another runner. A store that is away is tried again."""
        beat_due = 0.0
        while time.monotonic() < self._leave_by and not self._closed.wait(POLL_S):
            try:
                if time.monotonic() >= beat_due:
                    self._watched.heartbeat.beat()
                    beat_due = time.monotonic() + BEAT_S
                run = self._watched.read()
                if run.cancel or run.ended or run.runner != self._watched.runner:
                    self.cancelled = bool(run.cancel)
                    self.stop()
            except LuthierError as e:
                log.warning("the store does not answer: %s", e)


class Follower:
    """What a rank that does not lead has for a Reporter: it says nothing, and hears SIGTERM only."""

    last_checkpoint: dict[str, Any] | None = None

    def __init__(self) -> None:
        self.going = True

    def stop(self) -> None:
        self.going = False

    def check(self) -> None:
        """Raises Stopped when it should stop."""
        if not self.going:
            raise Stopped

    def stage(self, name: str, total: int = 0, done: int = 0) -> None:
        self.check()

    def advance(self, done: int, total: int, **facts: Any) -> None:
        """Rank 0 tells."""

    def checkpoint(self, ref: dict[str, Any], step: int) -> None:
        """Rank 0 has it."""
