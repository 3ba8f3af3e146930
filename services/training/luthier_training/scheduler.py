"""Looks after runs: launches what is queued, requeues what a dead runner held, gives up on what always dies."""

import logging
import threading
from datetime import UTC, datetime

from luthier_kit.registry import (
    RUN_STATE_CANCELLED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    Heartbeat,
    RunLog,
    list_runs,
)
from luthier_kit.rpc import Internal, LuthierError, Unavailable
from luthier_kit.store import Store
from luthier_training.launchers.launcher import Launcher, Work, WorkState
from luthier_training.runs import KIND, TrainingRun, TrainingRunLog

log = logging.getLogger(__name__)
ALIVE = (WorkState.WAITING, WorkState.RUNNING)
LINGER_LIMIT_S = 60.0
"""How long the work of a run that has ended may go on by itself."""


class Scheduler:
    """Several may look after one store: a run's series lets only one runner work."""

    def __init__(self, store: Store, launcher: Launcher) -> None:
        self._store, self._launcher = store, launcher
        self._ended: set[str] = set()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True, name="scheduler")

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

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self.reconcile()
            except LuthierError as error:
                log.warning("cannot look after runs now: %s", error)
            except Exception:
                log.exception("looking after runs failed")
            self._wake.wait(self._launcher.poll_interval_s)

    def reconcile(self) -> None:
        """One round over the runs that have not ended, oldest first."""
        work = dict(self._launcher.list_work())  # before the runs: a runner writes its run's end before it exits
        runs = list_runs(self._store, KIND, leave_out=self._ended)
        self._ended |= {run.id for run in runs if run.ended}
        for run in reversed(runs):
            if not run.ended:
                self._reconcile(run, work)
        # work for a run that has ended ends by itself, unless it never began or hangs
        for run_id in self._ended & {name for name, own in work.items() if own.state in ALIVE}:
            run = RunLog(self._store, KIND, run_id).read()
            ended_s = (datetime.now(UTC) - run.updated_at).total_seconds()
            if (
                run.state == RUN_STATE_CANCELLED and work[run_id].state == WorkState.WAITING
            ) or ended_s > LINGER_LIMIT_S:
                self._launcher.stop(run_id)

    def _reconcile(self, run: TrainingRun, work: dict[str, Work]) -> None:
        own, record = work.get(run.id), RunLog(self._store, KIND, run.id)
        state = own.state if own else None
        if run.state == RUN_STATE_RUNNING and (state != WorkState.RUNNING or run.cancellation):
            if own and state == WorkState.EXITED and run.runner == own.runner:
                Heartbeat(self._store, run.id, own.runner).stop()  # our own process ended: no need for the expiry
            run = record.requeue()
        if run.state != RUN_STATE_QUEUED:
            return
        if run.cancellation:
            self._launcher.stop(run.id)
            record.cancelled()
        elif state in (None, WorkState.EXITED):
            self._launch(run, record, work)
        elif state == WorkState.FINISHED:
            record.fail(Internal(self._launcher.describe(run.id), reason="RUNNER_DIED"))
        elif state == WorkState.WAITING:
            record.waiting(self._launcher.describe(run.id))

    def _launch(self, run: TrainingRun, record: TrainingRunLog, work: dict[str, Work]) -> None:
        attempts, slots = self._launcher.max_attempts, self._launcher.slots
        if attempts is not None and run.attempts >= attempts:
            record.fail(Internal(f"its runner died {run.attempts} times", reason="RUNNER_DIED"))
        elif slots is None or sum(each.state == WorkState.RUNNING for each in work.values()) < slots:
            try:
                self._launcher.launch(run)
            except Unavailable as error:
                record.waiting(f"not launched yet: {error}")
            except LuthierError as error:
                record.fail(error)
            else:
                work[run.id] = Work(WorkState.RUNNING)
                log.info("launched", extra={"fields": {"run": run.id, "attempt": run.attempts + 1}})
