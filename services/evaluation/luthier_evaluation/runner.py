"""Does one evaluation: all rows of all models, a bounded number at a time, then scores, results and report."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from google.protobuf.json_format import MessageToDict

from luthier.evaluation.v1.evaluation_pb2 import RowResult
from luthier_evaluation import plan as plans
from luthier_evaluation import results, rows, scores
from luthier_evaluation.backend import Backend
from luthier_evaluation.measurement import Measurement, measured
from luthier_evaluation.plan import Plan
from luthier_evaluation.report import page
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import FailedPrecondition
from luthier_kit.runs import RunLog

PROGRESS_EVERY_S = 1.0


class CancelRequestedError(Exception):
    """Someone asked the evaluation to stop."""


class Runner:
    """Works on the runs that it is given, as one process."""

    def __init__(self, store: Artifacts, backend: Backend, rows_in_flight: int, stopping: Callable[[], bool]) -> None:
        self.store = store
        self.backend = backend
        self.rows_in_flight = rows_in_flight
        self.stopping = stopping

    def work(self, log: RunLog) -> None:
        """Do a run that has been started, to its end. Raises CancelRequestedError, or the error that ends it."""
        run = log.read()
        plan = plans.from_document(run.request["plan"])
        found = sorted(self._all_rows(log, plan), key=lambda result: (result.row, result.model))
        measurements = [measured(result) for result in found]
        _require_some(plan, measurements)
        table = scores.table(plan, measurements)
        document = results.document(log.read(), plan, measurements, table)
        results_ref = self.store.put_bytes("evaluations", results.encode(document), "json", "application/json")
        html = page.render(document, plan, measurements, table, self.store)
        report_ref = self.store.put_bytes("reports", html.encode(), "html", "text/html")
        log.succeed(
            scores=[score.__dict__ for score in table],
            report=_dict(report_ref),
            results=_dict(results_ref),
            failed_rows=document["failed_rows"],
        )

    def _all_rows(self, log: RunLog, plan: Plan) -> Iterator[RowResult]:
        """Results as they come. Rows done by an earlier attempt come at once, from their records."""
        jobs = [(model, index) for index in range(len(plan.suite.rows)) for model in plan.models]
        progress = _Progress(log, len(jobs))
        with ThreadPoolExecutor(self.rows_in_flight, thread_name_prefix="row") as pool:
            waiting = iter(jobs)
            flying: set[Future[RowResult]] = set()
            while True:
                while len(flying) < self.rows_in_flight and (job := next(waiting, None)):
                    flying.add(pool.submit(rows.row_result, self.store, self.backend, log.id, plan, *job))
                if not flying:
                    break
                done, flying = wait(flying, timeout=PROGRESS_EVERY_S, return_when=FIRST_COMPLETED)
                for future in done:
                    progress.count(result := future.result())
                    yield result
                progress.say()
                if self.stopping() or log.read().cancel:
                    raise CancelRequestedError
        progress.say(last=True)


class _Progress:
    """Writes how far the run is, at most once a second."""

    def __init__(self, log: RunLog, total: int) -> None:
        self.log, self.total = log, total
        self.done = self.failed = 0
        self.begin = self.said = time.monotonic()

    def count(self, result: RowResult) -> None:
        self.done += 1
        self.failed += result.HasField("error")

    def say(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self.said < PROGRESS_EVERY_S:
            return
        self.said = now
        facts: dict[str, Any] = {"done": self.done, "failed_rows": self.failed}
        facts["eta_s"] = round((now - self.begin) / self.done * (self.total - self.done), 1) if self.done else None
        known = self.log.read().progress
        if any(known.get(key) != value for key, value in facts.items() if key != "eta_s"):
            self.log.progress(**facts)


def _require_some(plan: Plan, measurements: Sequence[Measurement]) -> None:
    for model in plan.models:
        mine = [m for m in measurements if m.model == model.label]
        if all(m.error for m in mine):
            text = f"every row of {model.label} failed; the first one: {mine[0].error}"
            raise FailedPrecondition(text, reason="NO_ROW_SUCCEEDED")


def _dict(ref: Any) -> dict[str, Any]:
    return MessageToDict(ref, preserving_proto_field_name=True)
