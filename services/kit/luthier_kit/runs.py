"""Runs (training, evaluation): append-only series `runs/<id>/<seq>.json` in which the newest entry is the state.

The id is a digest of the request id, so a repeated request is the same run. Each change is written only behind the
entry it was based on: of two writers one is refused and looks again. A restarted service loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import Aborted, FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.heartbeat import Heartbeat
from luthier_kit.run_state import (
    CANCELLED,
    ENDED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Run,
    from_document,
    moved,
    to_document,
)

__all__ = [
    "CANCELLED", "ENDED", "FAILED", "QUEUED", "RUNNING", "SUCCEEDED", "Run", "RunLog", "list_runs", "run_id_of",
    "run_ids",
]  # fmt: skip

MAX_REQUEST_ID_CHARS = 128

Change = Callable[[Run], Run | None]
"""What an event makes of the newest state; None when there is nothing to write."""


class RunLog:
    """One run's series.

    With a `runner` (a name no other process ever had; letters, digits, `-`) the log belongs to who does the work: it
    beats (`heartbeat.beat()`) and writes only while the run is its own. Without one it belongs to who looks on.
    """

    def __init__(self, store: Artifacts, run_id: str, runner: str = "") -> None:
        self._store, self.id, self.runner = store, run_id, runner
        self.heartbeat = Heartbeat(store, run_id, runner)
        self._known: Run | None = None

    @classmethod
    def create(cls, store: Artifacts, kind: str, request_id: str, request: Mapping[str, Any]) -> RunLog:
        """Begin a run, or find the one that this request id began.

        Raises FailedPrecondition REQUEST_ID_REUSED when that one was asked something else.
        """
        if not 0 < len(request_id) <= MAX_REQUEST_ID_CHARS:
            bound = f"must be 1 to {MAX_REQUEST_ID_CHARS} characters, got {len(request_id)}"
            raise InvalidRequest(violations=[("request_id", bound)])
        run_id = run_id_of(kind, request_id)
        now = _now()
        asked = json.loads(json.dumps(request))
        run = Run(id=run_id, kind=kind, request=asked, created_at=now, updated_at=now)
        log = cls(store, run_id)
        if not store.append_at(_series(run_id), 1, to_document(run)):
            first = store.entry(_series(run_id), 1) or {}
            if first.get("request") != asked:
                text = f"request id {request_id!r} began another {kind} run; use a new one"
                raise FailedPrecondition(text, reason="REQUEST_ID_REUSED")
        return log

    def read(self) -> Run:
        """The newest state; NotFound when there is no such run."""
        after = self._known.seq if self._known else 0
        newer = self._store.series(_series(self.id), after) if after else self._newest()
        if newer:
            self._known = from_document(*newer[-1])
        if self._known is None:
            raise NotFound(f"no run {self.id[:128]!r}", reason="RUN_NOT_FOUND")
        return self._known

    def start(self) -> Run:
        """Begin to work as `runner`. Aborted RUN_TAKEN while another runner's heart beats."""

        def change(run: Run) -> Run:
            if run.state == RUNNING and run.runner != self.runner and self._beats(run):
                raise Aborted(f"run {self.id} is worked on by {run.runner}", reason="RUN_TAKEN")
            base = replace(run, state=QUEUED) if run.state == RUNNING else run
            return replace(moved(base, RUNNING), event="started", runner=self.runner, attempts=run.attempts + 1)

        self.heartbeat.beat()
        return self._append(change, own=False)

    def progress(self, **facts: Any) -> Run:
        """Say what the runner is doing; `facts` replace those of the same name."""
        return self._append(lambda run: replace(run, event="progress", progress={**run.progress, **facts}))

    def succeed(self, **result: Any) -> Run:
        """End well."""
        return self._append(lambda run: replace(moved(run, SUCCEEDED), event="succeeded", result=result))

    def fail(self, reason: str, message: str) -> Run:
        """End with an error; an ended run stays as it is."""
        error = {"reason": reason, "message": message}
        return self._append(lambda run: None if run.ended else replace(moved(run, FAILED), event="failed", error=error))

    def cancelled(self) -> Run:
        """The runner stopped because it was asked to."""
        return self._append(lambda run: None if run.ended else replace(moved(run, CANCELLED), event="cancelled"))

    def requeue(self) -> Run:
        """Give a run back whose runner died; nothing happens while its heart beats or when it does not run."""

        def change(run: Run) -> Run | None:
            if run.state != RUNNING or self._beats(run):
                return None
            return replace(moved(run, QUEUED), event="requeued", runner="")

        return self._append(change, own=False)

    def waiting(self, why: str) -> Run:
        """Say what a queued run waits for, as its stage; nothing happens once it runs, or when that is known."""

        def change(run: Run) -> Run | None:
            if run.state != QUEUED or run.progress.get("stage") == why:
                return None
            return replace(run, event="waiting", progress={**run.progress, "stage": why, "eta_s": None})

        return self._append(change, own=False)

    def cancel(self, by: str = "", reason: str = "") -> Run:
        """Ask to stop: a queued run ends at once, a running one when its runner sees it; an ended one stays."""
        asked = {"by": by, "reason": reason}

        def change(run: Run) -> Run | None:
            if run.ended or run.cancel:
                return None
            asking = replace(run, event="cancel", cancel=asked)
            return replace(asking, state=CANCELLED) if run.state == QUEUED else asking

        return self._append(change, own=False)

    def watch(
        self, after_seq: int = 0, *, poll_s: float = 1.0, going: Callable[[], bool] = lambda: True
    ) -> Iterator[Run]:
        """Every state behind `after_seq` (0 = the present one first) until the run ends or `going()` says stop."""
        run = self.read()
        if not after_seq:
            yield run
            after_seq = run.seq
        ended = run.ended and run.seq <= after_seq
        while going() and not ended:
            for number, document in self._store.series(_series(self.id), after_seq):
                run = from_document(number, document)
                yield run
                after_seq, ended = number, run.ended
            if not ended:
                time.sleep(poll_s)

    def _beats(self, run: Run) -> bool:
        return Heartbeat(self._store, self.id, run.runner).alive()

    def _newest(self) -> list[tuple[int, dict[str, Any]]]:
        newest = self._store.latest(_series(self.id)) if _is_id(self.id) else None
        return [newest] if newest else []

    def _append(self, change: Change, *, own: bool = True) -> Run:
        while True:
            run = self.read()
            if own and self.runner and run.runner != self.runner:
                text = f"run {self.id} has another runner now: {run.runner or 'none'}"
                raise Aborted(text, reason="RUN_TAKEN")
            changed = change(run)
            if changed is None:
                return run
            changed = replace(changed, updated_at=_now(), seq=run.seq + 1)
            if self._store.append_at(_series(self.id), changed.seq, to_document(changed)):
                self._known = changed
                return changed


def run_id_of(kind: str, request_id: str) -> str:
    """`<kind>-<32 hexadecimal digits of the SHA-256 of the request id>`."""
    return f"{kind}-{hashlib.sha256(request_id.encode()).hexdigest()[:32]}"


def run_ids(store: Artifacts, kind: str) -> list[str]:
    """Ids of all runs of a kind, in no particular order."""
    return store.names(f"runs/{kind}-")


def list_runs(store: Artifacts, kind: str) -> list[Run]:
    """The newest state of all runs of a kind, newest run first."""
    found = [RunLog(store, run_id).read() for run_id in run_ids(store, kind)]
    return sorted(found, key=lambda run: (run.created_at, run.id), reverse=True)


def _is_id(run_id: str) -> bool:
    return len(run_id) <= MAX_REQUEST_ID_CHARS and run_id.replace("-", "").isalnum() and run_id.isascii()


def _series(run_id: str) -> str:
    return f"runs/{run_id}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
