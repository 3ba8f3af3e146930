"""Looks after runs: launches what is queued, gives back what a dead runner held, gives up on what always
dies.
"""

from __future__ import annotations

import logging
import threading
import uuid

from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import LuthierError
from luthier_kit.heartbeat import Heartbeat
from luthier_kit.runs import QUEUED, RUNNING, Run, RunLog, run_ids
from luthier_training.launchers import Launcher

log = logging.getLogger(__name__)
KIND = "training"
LOOK_EVERY_S = 1.0
MAX_ATTEMPTS = 10
"""Attempts at a run before it fails: restarts of the service count, too."""


class Scheduler:
    """Several may look after one store: a run's series lets only one runner work."""

    def __init__(self, store: Artifacts, launcher: Launcher, places: int) -> None:
        self._store, self._launcher, self._places = store, launcher, places
        self._ended: set[str] = set()
        self._launched: dict[str, str] = {}
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True, name="scheduler")

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(5)
        self._launcher.close()

    def _look_on(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self.look()
            except LuthierError as e:
                log.warning("cannot look after runs now: %s", e)
            except Exception:
                log.exception("looking after runs failed")
            self._wake.wait(LOOK_EVERY_S)

    def look(self) -> None:
        """One round over the runs that have not ended, oldest first."""
        runs = [RunLog(self._store, name).read() for name in run_ids(self._store, KIND) if name not in self._ended]
        self._ended |= {run.id for run in runs if run.ended}
        for run in sorted((run for run in runs if not run.ended), key=lambda run: (run.created_at, run.id)):
            self._attend(run)

    def _attend(self, run: Run) -> None:
        runner = self._launched.get(run.id)
        if runner and self._launcher.alive(runner):
            return
        if run.state == RUNNING:
            if runner and run.runner == runner:
                Heartbeat(self._store, run.id, runner).stop()  # our own process ended: no need to wait for the expiry
            run = RunLog(self._store, run.id).requeue()
        if run.state == QUEUED:
            self._launch(run)

    def _launch(self, run: Run) -> None:
        record = RunLog(self._store, run.id)
        if run.cancel:
            record.cancelled()
        elif run.attempts >= MAX_ATTEMPTS:
            record.fail("RUNNER_DIED", f"its runner died {run.attempts} times")
        elif sum(bool(self._launcher.alive(runner)) for runner in self._launched.values()) < self._places:
            runner = uuid.uuid4().hex
            self._launcher.launch(run.id, runner)
            self._launched[run.id] = runner
            log.info("launched", extra={"fields": {"run": run.id, "runner": runner, "attempt": run.attempts + 1}})
