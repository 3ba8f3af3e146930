"""Looks after runs: launches what is queued, gives back what a dead runner held, gives up on what always
dies.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import LuthierError, Unavailable
from luthier_kit.heartbeat import Heartbeat
from luthier_kit.runs import CANCELLED, QUEUED, RUNNING, Run, RunLog, run_ids
from luthier_training.launchers.launcher import DEAD, GAVE_UP, WAITING, WORKING, Launcher, Work
from luthier_training.reporting import fail

log = logging.getLogger(__name__)
KIND = "training"
LEAVE_PATIENCE_S = 60.0
"""How long the work of a run that has ended may go on by itself."""


class Scheduler:
    """Several may look after one store: a run's series lets only one runner work."""

    def __init__(self, store: Artifacts, launcher: Launcher) -> None:
        self._store, self._launcher = store, launcher
        self._ended: set[str] = set()
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
            self._wake.wait(self._launcher.every_s)

    def look(self) -> None:
        """One round over the runs that have not ended, oldest first."""
        works = dict(self._launcher.look())  # before the runs: whoever left by then had written the end
        runs = [RunLog(self._store, name).read() for name in run_ids(self._store, KIND) if name not in self._ended]
        self._ended |= {run.id for run in runs if run.ended}
        for run in sorted((run for run in runs if not run.ended), key=lambda run: (run.created_at, run.id)):
            self._attend(run, works)
        for run_id in self._ended & {name for name, work in works.items() if work.state in (WAITING, WORKING)}:
            self._clear(RunLog(self._store, run_id).read(), works[run_id])

    def _attend(self, run: Run, works: dict[str, Work]) -> None:
        work, record = works.get(run.id), RunLog(self._store, run.id)
        if run.state == RUNNING and not (work and work.state == WORKING and not run.cancel):
            if work and work.state == DEAD and run.runner == work.runner:
                Heartbeat(self._store, run.id, work.runner).stop()  # our own process ended: no need for the expiry
            run = record.requeue()
        if run.state != QUEUED:
            return
        if run.cancel:
            self._launcher.stop(run.id)
            record.cancelled()
        elif work is None or work.state == DEAD:
            self._launch(run, record, works)
        elif work.state == GAVE_UP:
            record.fail("RUNNER_DIED", self._launcher.why(run.id))
        elif work.state == WAITING:
            record.waiting(self._launcher.why(run.id))

    def _launch(self, run: Run, record: RunLog, works: dict[str, Work]) -> None:
        attempts, places = self._launcher.attempts, self._launcher.places
        if attempts is not None and run.attempts >= attempts:
            record.fail("RUNNER_DIED", f"its runner died {run.attempts} times")
        elif places is None or sum(work.state == WORKING for work in works.values()) < places:
            try:
                self._launcher.launch(run)
            except Unavailable as e:
                record.waiting(f"not launched yet: {e}")
            except LuthierError as e:
                fail(record, e)
            else:
                works[run.id] = Work(WORKING)
                log.info("launched", extra={"fields": {"run": run.id, "attempt": run.attempts + 1}})

    def _clear(self, run: Run, work: Work) -> None:
        """Work for a run that has ended goes by itself, unless it never began or hangs."""
        ended_s = (datetime.now(UTC) - datetime.fromisoformat(run.updated_at)).total_seconds()
        if (run.state == CANCELLED and work.state == WAITING) or ended_s > LEAVE_PATIENCE_S:
            self._launcher.stop(run.id)
