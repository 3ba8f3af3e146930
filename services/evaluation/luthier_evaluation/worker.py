"""Finds evaluations to do and does them, one at a time, beside the server; takes over those whose runner died."""

import logging
import queue
import threading
import uuid

from luthier_evaluation.backend import Backend
from luthier_evaluation.runner import CancelRequestedError, Runner
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit import runs
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import Aborted, Internal, LuthierError
from luthier_kit.runs import RunLog

log = logging.getLogger(__name__)
KIND = "evaluation"
LOOK_EVERY_S = 5.0
BEAT_EVERY_S = 3.0
BEAT_EXPIRY_S = 12.0  # so soon another process may take a dead one's evaluation


class Worker:
    """One thread. `offer` makes it look at once; `close` gives an unfinished run back."""

    def __init__(self, store: Artifacts, settings: EvaluationSettings) -> None:
        self.store = store
        self.backend = Backend(settings)
        self.name = f"evaluation-{uuid.uuid4().hex}"
        self._stop = threading.Event()
        self._offered: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ended: set[str] = set()
        self._runner = Runner(store, self.backend, settings.rows_in_flight, self._stop.is_set)
        self._thread = threading.Thread(target=self._loop, name="evaluations", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, run_id: str) -> None:
        self._offered.put(run_id)

    def close(self) -> None:
        self._stop.set()
        self.backend.close()
        self._offered.put("")
        if self._thread.ident:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                for run_id in self._open_runs():
                    if not self._stop.is_set():
                        self._try(RunLog(self.store, run_id, self.name))
            except LuthierError as error:  # the store is away: look again later
                log.warning("cannot look for evaluations: %s", error)
            except Exception:
                log.exception("looking for evaluations failed")
            try:
                self._offered.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                continue

    def _open_runs(self) -> list[str]:
        """Evaluations that have not ended, oldest first."""
        found = []
        for run_id in runs.run_ids(self.store, KIND):
            if run_id not in self._ended:
                run = RunLog(self.store, run_id).read()
                if run.ended:
                    self._ended.add(run_id)
                else:
                    found.append((run.created_at, run_id))
        return [run_id for _, run_id in sorted(found)]

    def _try(self, run_log: RunLog) -> None:
        """Do one run, unless somebody else is at it."""
        try:
            if run_log.start().cancel:
                run_log.cancelled()
                return
        except Aborted:
            return
        beating = threading.Event()
        heart = threading.Thread(target=self._beat, args=(run_log, beating), name="heartbeat", daemon=True)
        heart.start()
        try:
            self._work(run_log)
        finally:
            beating.set()
            heart.join()
            run_log.heartbeat.stop()
            if self._stop.is_set():
                run_log.requeue()

    def _work(self, run_log: RunLog) -> None:
        try:
            self._runner.work(run_log)
        except CancelRequestedError:
            if not self._stop.is_set():
                run_log.cancelled()
        except Aborted as error:
            log.warning("%s: %s", run_log.id, error)
        except LuthierError as error:
            if not self._stop.is_set():
                _fail(run_log, error)
        except Exception:
            log.exception("%s failed", run_log.id)
            _fail(run_log, Internal("internal error; the trace is in the service's log"))

    def _beat(self, run_log: RunLog, done: threading.Event) -> None:
        while not done.is_set():
            try:
                run_log.heartbeat.beat(BEAT_EXPIRY_S)
            except LuthierError as error:
                log.warning("no heartbeat: %s", error)
            done.wait(BEAT_EVERY_S)


def _fail(run_log: RunLog, error: LuthierError) -> None:
    run_log.progress(error_code=error.code.value[0])
    run_log.fail(error.reason, str(error))
