"""The states of a run, and a run as of one event.

QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED
QUEUED -> CANCELLED | FAILED;  RUNNING -> QUEUED when its runner died and another may take over
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from luthier_kit.errors import FailedPrecondition

QUEUED, RUNNING = "QUEUED", "RUNNING"
SUCCEEDED, FAILED, CANCELLED = "SUCCEEDED", "FAILED", "CANCELLED"
ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED})
_NEXT = {
    QUEUED: frozenset({RUNNING, FAILED, CANCELLED}),
    RUNNING: frozenset({QUEUED, SUCCEEDED, FAILED, CANCELLED}),
}


@dataclass(frozen=True)
class Run:
    """A run as of one event.

    `request` is what was asked, `progress` what it is doing, `result` what it made, `error` why it failed
    (`{"reason", "message"}`): JSON objects of the domain. `runner` is who works on it, `attempts` how often one began.
    """

    id: str
    kind: str
    request: Mapping[str, Any]
    state: str = QUEUED
    event: str = "created"
    progress: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    cancel: Mapping[str, str] | None = None
    runner: str = ""
    attempts: int = 0
    created_at: str = ""
    updated_at: str = ""
    seq: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def moved(run: Run, state: str) -> Run:
    """The run in another state; FailedPrecondition RUN_STATE when no way leads there."""
    if state not in _NEXT.get(run.state, frozenset()):
        text = f"run {run.id} is {run.state} and cannot become {state}"
        raise FailedPrecondition(text, reason="RUN_STATE")
    return replace(run, state=state)


def to_document(run: Run) -> dict[str, Any]:
    document = asdict(run)
    del document["seq"]
    return document


def from_document(seq: int, document: Mapping[str, Any]) -> Run:
    known = {key: value for key, value in document.items() if key in Run.__dataclass_fields__}
    return Run(**{**known, "seq": seq})
