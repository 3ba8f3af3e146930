"""Finds evaluations to do and does them, one at a time, beside the server; takes over those whose runner died."""

import logging
import queue
import threading
import uuid
from typing import Final

from luthier_evaluation.evaluate import CancelRequestedError, connect, evaluate
from luthier_evaluation.plan import EVALUATIONS, Evaluation
from luthier_evaluation.settings import EvaluationSettings
from luthier_evaluation.weights import Weights
from luthier_kit.registry import RunLog, list_runs
from luthier_kit.rpc import Aborted, Internal, LuthierError
from luthier_kit.store import Store

log = logging.getLogger(__name__)
LOOK_EVERY_S: Final = 5.0
BEAT_EVERY_S: Final = 3.0
BEAT_EXPIRY_S: Final = 12.0  # so soon another process may take a dead one's evaluation


class Worker:
    """One thread. `offer` makes it look at once; `close` gives an unfinished run back."""

    def __init__(self, store: Store, weights: Weights, settings: EvaluationSettings) -> None:
        self.store = store
        self.weights = weights
        self.settings = settings
        self.clients = connect(settings)
        self.name = f"evaluation-{uuid.uuid4().hex}"
        self._stop = threading.Event()
        self._offered: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ended: set[str] = set()
        self._thread = threading.Thread(target=self._loop, name="evaluations", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, evaluation_id: str) -> None:
        self._offered.put(evaluation_id)

    def close(self) -> None:
        self._stop.set()
        self.clients.close()
        self._offered.put("")
        if self._thread.ident:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                for evaluation in self._open_evaluations():
                    if not self._stop.is_set():
                        self._do(evaluation)
            except LuthierError as error:  # the store is away: look again later
                log.warning("cannot look for evaluations: %s", error)
            except Exception:
                log.exception("looking for evaluations failed")
            try:
                self._offered.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                continue

    def _open_evaluations(self) -> list[Evaluation]:
        """Those that have not ended, oldest first."""
        runs = list_runs(self.store, EVALUATIONS, leave_out=self._ended)
        self._ended |= {run.id for run in runs if run.ended}
        return [RunLog(self.store, EVALUATIONS, run.id, self.name) for run in reversed(runs) if not run.ended]

    def _do(self, evaluation: Evaluation) -> None:
        """Do one evaluation, unless another process is at it."""
        try:
            if evaluation.start().cancellation:
                evaluation.cancelled()
                return
        except Aborted:
            return
        done = threading.Event()

        def beat() -> None:
            while not done.is_set():
                try:
                    evaluation.heartbeat.beat(BEAT_EXPIRY_S)
                except LuthierError as error:
                    log.warning("no heartbeat: %s", error)
                done.wait(BEAT_EVERY_S)

        beating = threading.Thread(target=beat, name="heartbeat", daemon=True)
        beating.start()
        try:
            stopping = self._stop.is_set
            evaluation.succeed(evaluate(self.store, self.clients, self.weights, evaluation, self.settings, stopping))
        except CancelRequestedError:
            if not self._stop.is_set():
                evaluation.cancelled()
        except Aborted as error:
            log.warning("%s: %s", evaluation.id, error)
        except LuthierError as error:
            if not self._stop.is_set():
                evaluation.fail(error)
        except Exception:
            log.exception("%s failed", evaluation.id)
            evaluation.fail(Internal("internal error; the trace is in the service's log"))
        finally:
            done.set()
            beating.join()
            evaluation.heartbeat.stop()
            if self._stop.is_set():
                evaluation.requeue()
