"""Runs (training, evaluation): append-only series `runs/<id>/<seq>.json` in which the newest entry is the state.

    QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED
    QUEUED -> CANCELLED | FAILED;  RUNNING -> QUEUED when its runner died and another may take over

The id is a digest of the request id, so a repeated request is the same run. Each change is written only behind the
entry it was based on: of two writers one is refused and looks again. A restarted service loses nothing.
"""

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from luthier.registry.v1 import registry_pb2
from luthier.registry.v1.registry_pb2 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    Cancellation,
    RunState,
)
from luthier_kit.registry._heartbeat import Heartbeat
from luthier_kit.rpc import (
    BY_CODE,
    Aborted,
    DataLoss,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    LuthierError,
    NotFound,
    status_of,
)
from luthier_kit.store import Store

log = logging.getLogger(__name__)
MAX_REQUEST_ID_CHARS = 128
ENDED = frozenset({RUN_STATE_SUCCEEDED, RUN_STATE_FAILED, RUN_STATE_CANCELLED})
_NEXT = {
    RUN_STATE_QUEUED: frozenset({RUN_STATE_RUNNING, RUN_STATE_FAILED, RUN_STATE_CANCELLED}),
    RUN_STATE_RUNNING: frozenset({RUN_STATE_QUEUED, RUN_STATE_SUCCEEDED, RUN_STATE_FAILED, RUN_STATE_CANCELLED}),
}

Req = TypeVar("Req", bound=Message)
Prog = TypeVar("Prog", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclass(frozen=True)
class RunKind(Generic[Req, Prog, Res]):
    """The runs of one service: the messages of their requests, progress and results.

    `old_…` read the JSON objects in which Luthier 0.1 stored them.
    """

    name: str
    request: type[Req]
    progress: type[Prog]
    result: type[Res]
    old_request: Callable[[Mapping[str, Any]], Req] | None = None
    old_progress: Callable[[Mapping[str, Any]], Prog] | None = None
    old_result: Callable[[Mapping[str, Any]], Res] | None = None


@dataclass(frozen=True)
class Run(Generic[Req, Prog, Res]):
    """A run as of one event.

    `request` is what was asked, `progress` what the runner has done, `result` what it made (set on success), `error`
    why it failed. `runner` is the process that works on it, `attempts` how often one began, `seq` the event's number.
    """

    id: str
    kind: str
    request: Req
    progress: Prog
    result: Res
    created_at: datetime
    updated_at: datetime
    state: RunState = RUN_STATE_QUEUED
    event: str = "created"
    error: Status | None = None
    cancellation: Cancellation | None = None
    runner: str = ""
    attempts: int = 0
    waiting_for: str = ""
    seq: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


Change = Callable[[Run[Req, Prog, Res]], Run[Req, Prog, Res] | None]
"""What an event makes of the newest state; None when there is nothing to write."""


class RunLog(Generic[Req, Prog, Res]):
    """One run's series.

    With a `runner` (a name that no other process ever had; letters, digits, `-`) this is the log of the process that
    does the work: it renews its heartbeat (`heartbeat.beat()`) and writes only while the run is its own. Without one
    it is for processes that read, cancel and requeue.
    """

    def __init__(self, store: Store, kind: RunKind[Req, Prog, Res], run_id: str, runner: str = "") -> None:
        self._store, self.kind, self.id, self.runner = store, kind, run_id, runner
        self.heartbeat = Heartbeat(store, run_id, runner)
        self._series = store.series(registry_pb2.Run, f"runs/{run_id}", lambda value: _old_run(kind, run_id, value))
        self._known: Run[Req, Prog, Res] | None = None

    @classmethod
    def create(
        cls,
        store: Store,
        kind: RunKind[Req, Prog, Res],
        request_id: str,
        request: Req,
        settle: Callable[[Req], Req] = lambda stored: stored,
    ) -> "RunLog[Req, Prog, Res]":
        """Begin a run, or find the one that this request id began.

        `settle` fills in what a request of an earlier release could not name. Raises FailedPrecondition
        REQUEST_ID_REUSED when that one was asked something else.
        """
        if not 0 < len(request_id) <= MAX_REQUEST_ID_CHARS:
            bound = f"must be 1 to {MAX_REQUEST_ID_CHARS} characters, got {len(request_id)}"
            raise InvalidRequest(violations=[("request_id", bound)])
        log = cls(store, kind, run_id_of(kind.name, request_id))
        now = datetime.now(UTC)
        run = Run(log.id, kind.name, request, kind.progress(), kind.result(), created_at=now, updated_at=now)
        if not log._series.append_at(1, _to_message(run)):
            first = log._series.entry(1)
            if first is None or settle(_unpacked(first.request, kind.request)) != request:
                text = f"request id {request_id!r} began another {kind.name} run; use a new one"
                raise FailedPrecondition(text, reason="REQUEST_ID_REUSED")
        return log

    def read(self) -> Run[Req, Prog, Res]:
        """The newest state; NotFound when there is no such run."""
        if self._known:
            newer = self._series.entries(self._known.seq)
        else:
            newest = self._series.latest() if _is_id(self.id) else None
            newer = [newest] if newest else []
        if newer:
            self._known = self._run(*newer[-1])
        if self._known is None:
            raise NotFound(f"no run {self.id[:128]!r}", reason="RUN_NOT_FOUND")
        return self._known

    def start(self) -> Run[Req, Prog, Res]:
        """Begin to work as `runner`. Aborted RUN_TAKEN while another runner is alive."""

        def change(run: Run[Req, Prog, Res]) -> Run[Req, Prog, Res]:
            if run.state == RUN_STATE_RUNNING and run.runner != self.runner and self._runner_lives(run):
                raise Aborted(f"run {self.id} is worked on by {run.runner}", reason="RUN_TAKEN")
            base = replace(run, state=RUN_STATE_QUEUED) if run.state == RUN_STATE_RUNNING else run
            started = _moved(base, RUN_STATE_RUNNING)
            return replace(started, event="started", runner=self.runner, attempts=run.attempts + 1, waiting_for="")

        self.heartbeat.beat()
        return self._append(change, own=False)

    def progress(self, progress: Prog) -> Run[Req, Prog, Res]:
        """Store what the runner has done so far; replaces the progress before it."""
        return self._append(lambda run: replace(run, event="progress", progress=progress))

    def succeed(self, result: Res) -> Run[Req, Prog, Res]:
        """End well."""
        return self._append(lambda run: replace(_moved(run, RUN_STATE_SUCCEEDED), event="succeeded", result=result))

    def fail(self, error: LuthierError) -> Run[Req, Prog, Res]:
        """End with an error; an ended run stays as it is."""
        status = status_of(error, self.kind.name)
        return self._append(
            lambda run: None if run.ended else replace(_moved(run, RUN_STATE_FAILED), event="failed", error=status)
        )

    def cancelled(self) -> Run[Req, Prog, Res]:
        """The runner stopped because it was asked to."""
        return self._append(
            lambda run: None if run.ended else replace(_moved(run, RUN_STATE_CANCELLED), event="cancelled")
        )

    def requeue(self) -> Run[Req, Prog, Res]:
        """Queue a run again whose runner died. Does nothing while that one is alive or the run is not running."""

        def change(run: Run[Req, Prog, Res]) -> Run[Req, Prog, Res] | None:
            if run.state != RUN_STATE_RUNNING or self._runner_lives(run):
                return None
            return replace(_moved(run, RUN_STATE_QUEUED), event="requeued", runner="")

        return self._append(change, own=False)

    def waiting(self, why: str) -> Run[Req, Prog, Res]:
        """Store what a queued run waits for. Does nothing once it runs, or when that is stored already."""

        def change(run: Run[Req, Prog, Res]) -> Run[Req, Prog, Res] | None:
            if run.state != RUN_STATE_QUEUED or run.waiting_for == why:
                return None
            return replace(run, event="waiting", waiting_for=why)

        return self._append(change, own=False)

    def cancel(self, by: str = "", reason: str = "") -> Run[Req, Prog, Res]:
        """Ask to stop: a queued run ends at once, a running one when its runner sees it; an ended one stays."""
        asked = Cancellation(requested_by=by, reason=reason)

        def change(run: Run[Req, Prog, Res]) -> Run[Req, Prog, Res] | None:
            if run.ended or run.cancellation:
                return None
            asking = replace(run, event="cancel", cancellation=asked)
            return replace(asking, state=RUN_STATE_CANCELLED) if run.state == RUN_STATE_QUEUED else asking

        return self._append(change, own=False)

    def watch(
        self, after_seq: int = 0, *, poll_s: float = 1.0, going: Callable[[], bool] = lambda: True
    ) -> Iterator[Run[Req, Prog, Res]]:
        """Every state behind `after_seq` (0 = the present one first) until the run ends or `going()` is false."""
        run = self.read()
        if not after_seq:
            yield run
            after_seq = run.seq
        ended = run.ended and run.seq <= after_seq
        while going() and not ended:
            for number, message in self._series.entries(after_seq):
                run = self._run(number, message)
                yield run
                after_seq, ended = number, run.ended
            if not ended:
                time.sleep(poll_s)

    def _runner_lives(self, run: Run[Req, Prog, Res]) -> bool:
        return Heartbeat(self._store, self.id, run.runner).alive()

    def _append(self, change: Change[Req, Prog, Res], *, own: bool = True) -> Run[Req, Prog, Res]:
        while True:
            run = self.read()
            if own and self.runner and run.runner != self.runner:
                text = f"run {self.id} has another runner now: {run.runner or 'none'}"
                raise Aborted(text, reason="RUN_TAKEN")
            changed = change(run)
            if changed is None:
                return run
            changed = replace(changed, updated_at=datetime.now(UTC), seq=run.seq + 1)
            if self._series.append_at(changed.seq, _to_message(changed)):
                self._known = changed
                return changed

    def _run(self, seq: int, message: registry_pb2.Run) -> Run[Req, Prog, Res]:
        kind = self.kind
        if message.kind != kind.name or message.state not in RunState.values():
            text = f"run {self.id}: event {seq} is of kind {message.kind[:40]!r}, state {message.state}"
            raise DataLoss(text, reason="ENTRY_CORRUPT")
        return Run(
            id=message.run_id,
            kind=message.kind,
            request=_unpacked(message.request, kind.request),
            progress=_unpacked(message.progress, kind.progress),
            result=_unpacked(message.result, kind.result),
            created_at=message.created_at.ToDatetime(UTC),
            updated_at=message.updated_at.ToDatetime(UTC),
            state=message.state,
            event=message.event,
            error=message.error if message.HasField("error") else None,
            cancellation=message.cancellation if message.HasField("cancellation") else None,
            runner=message.runner,
            attempts=message.attempts,
            waiting_for=message.waiting_for,
            seq=seq,
        )


def run_id_of(kind: str, request_id: str) -> str:
    """`<kind>-<32 hexadecimal digits of the SHA-256 of the request id>`."""
    return f"{kind}-{hashlib.sha256(request_id.encode()).hexdigest()[:32]}"


def list_runs(
    store: Store, kind: RunKind[Req, Prog, Res], leave_out: Collection[str] = ()
) -> list[Run[Req, Prog, Res]]:
    """The newest state of the runs of a kind, newest run first; runs whose ids are in `leave_out` are not read.

    One that cannot be read is told to the log and left out.
    """
    found = _read(store, kind, (name for name in store.names(f"runs/{kind.name}-") if name not in leave_out))
    return sorted(found, key=lambda run: (run.created_at, run.id), reverse=True)


class RunPages(Generic[Req, Prog, Res]):
    """The runs of a kind, newest first, a page at a time. Threads may share it.

    When a run was created is read once and remembered, so that a page costs its own runs and not all that there ever
    were. Of runs that this process created it is never read: `note` says it.
    """

    def __init__(self, store: Store, kind: RunKind[Req, Prog, Res]) -> None:
        self._store, self._kind = store, kind
        self._positions: dict[str, str] = {}  # by id
        self._noted = deque[Run[Req, Prog, Res]]()
        self._lock = threading.Lock()

    def note(self, run: Run[Req, Prog, Res]) -> None:
        """A run that was just created. Waits for no page."""
        self._noted.append(run)

    def page(self, size: int, behind: str = "") -> tuple[list[tuple[str, Run[Req, Prog, Res]]], str]:
        """At most `size` runs behind a position ("" = from the newest on), each with its position; and the position of
        the last one when more follow, else "". A run that cannot be read is told to the log and left out.
        """
        with self._lock:
            while self._noted:
                self._remember(self._noted.popleft())
            ids = self._store.names(f"runs/{self._kind.name}-")
            for run in _read(self._store, self._kind, [name for name in ids if name not in self._positions]):
                self._remember(run)
            self._positions = {name: self._positions[name] for name in ids if name in self._positions}
            found = sorted((at for at in self._positions.values() if not behind or at < behind), reverse=True)
        page = found[:size]
        positions = {at.rpartition(" ")[2]: at for at in page}
        runs = [(positions[run.id], run) for run in _read(self._store, self._kind, positions)]
        return runs, page[-1] if len(found) > size else ""

    def _remember(self, run: Run[Req, Prog, Res]) -> None:
        self._positions[run.id] = f"{run.created_at.astimezone(UTC).isoformat(timespec='microseconds')} {run.id}"


def _read(store: Store, kind: RunKind[Req, Prog, Res], ids: Iterable[str]) -> list[Run[Req, Prog, Res]]:
    """The newest state of each; one that cannot be read is told to the log and left out: the others go on."""
    found = []
    for run_id in ids:
        try:
            found.append(RunLog(store, kind, run_id).read())
        except (DataLoss, NotFound) as error:  # not found: deleted since it was listed
            log.error("%s cannot be read: %s", run_id, error)
    return found


def timestamp(moment: datetime) -> Timestamp:
    """A moment as a message."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _moved(run: Run[Req, Prog, Res], state: RunState) -> Run[Req, Prog, Res]:
    """The run in another state; FailedPrecondition RUN_STATE when no transition leads there."""
    if state not in _NEXT.get(run.state, frozenset()):
        names = [RunState.Name(s).removeprefix("RUN_STATE_") for s in (run.state, state)]
        raise FailedPrecondition(f"run {run.id} is {names[0]} and cannot become {names[1]}", reason="RUN_STATE")
    return replace(run, state=state)


def _to_message(run: Run[Req, Prog, Res]) -> registry_pb2.Run:
    message = registry_pb2.Run(
        run_id=run.id,
        kind=run.kind,
        state=run.state,
        event=run.event,
        error=run.error,
        cancellation=run.cancellation,
        runner=run.runner,
        attempts=run.attempts,
        waiting_for=run.waiting_for,
        created_at=timestamp(run.created_at),
        updated_at=timestamp(run.updated_at),
    )
    message.request.Pack(run.request)
    for field, part in ((message.progress, run.progress), (message.result, run.result)):
        if part.ListFields():
            field.Pack(part)
    return message


def _unpacked(packed: Any, kind: type[Req]) -> Req:
    message = kind()
    packed.Unpack(message)
    return message


def _is_id(run_id: str) -> bool:
    return len(run_id) <= MAX_REQUEST_ID_CHARS and run_id.replace("-", "").isalnum() and run_id.isascii()


def _old_run(kind: RunKind[Any, Any, Any], run_id: str, value: Mapping[str, Any]) -> registry_pb2.Run:
    """Luthier 0.1: a JSON object of its own, with the kind's request, progress and result as plain objects."""
    message = registry_pb2.Run(
        run_id=run_id,
        kind=value["kind"],
        state=f"RUN_STATE_{value['state']}",
        event=value["event"],
        runner=value["runner"],
        attempts=value["attempts"],
        created_at=timestamp(datetime.fromisoformat(value["created_at"])),
        updated_at=timestamp(datetime.fromisoformat(value["updated_at"])),
        waiting_for=value["progress"].get("stage", "") if value["event"] == "waiting" else "",
    )
    parts = (
        (message.request, value["request"], kind.request, kind.old_request),
        (message.progress, value["progress"], kind.progress, kind.old_progress),
        (message.result, value["result"], kind.result, kind.old_result),
    )
    for field, part, part_kind, reader in parts:
        if part:
            field.Pack(reader(part) if reader else ParseDict(part, part_kind(), ignore_unknown_fields=True))
    if value["error"]:
        code = value["progress"].get("error_code", Internal.code.value[0])
        error_type = next((kind for status, kind in BY_CODE.items() if status.value[0] == code), Internal)
        message.error.CopyFrom(
            status_of(error_type(value["error"]["message"], reason=value["error"]["reason"]), value["kind"])
        )
    if value["cancel"]:
        message.cancellation.requested_by = value["cancel"].get("by", "")
        message.cancellation.reason = value["cancel"].get("reason", "")
    return message
