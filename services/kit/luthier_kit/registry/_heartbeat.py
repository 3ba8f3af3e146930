"""Heartbeats of a runner: the series `heartbeats/<run id>/<runner>/<n>.json`, whose newest entry has the expiry.

Nothing is overwritten; the runner itself deletes the entry before the last two.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from luthier.registry.v1 import registry_pb2
from luthier_kit.store import Store

EXPIRY_S = 60.0
"""How long a silent runner counts as alive; the clocks of machines must agree much better than this."""


class Heartbeat:
    """Tells a dead runner from a slow one. `runner` names one process: a new process takes a name never used before."""

    def __init__(self, store: Store, run_id: str, runner: str) -> None:
        self._series = store.series(registry_pb2.Heartbeat, f"heartbeats/{run_id}/{runner}", _old_heartbeat)
        self._number = 0

    def beat(self, expiry_s: float = EXPIRY_S) -> None:
        """Counts as alive for `expiry_s` seconds from now. Call it about four times in that time."""
        self._number = self._series.append(_until(time.time() + expiry_s), after=self._number)
        if self._number > 2:
            self._series.delete(self._number - 2)

    def stop(self) -> None:
        """Counts as dead from now on, so that no other process waits for the expiry."""
        self._series.delete_all()

    def alive(self) -> bool:
        """True until the newest entry expires."""
        newest = self._series.latest()
        return newest is not None and newest[1].expires_at.ToDatetime(UTC) > datetime.now(UTC)


def _until(seconds: float) -> registry_pb2.Heartbeat:
    heartbeat = registry_pb2.Heartbeat()
    heartbeat.expires_at.FromNanoseconds(int(seconds * 1e9))
    return heartbeat


def _old_heartbeat(value: Mapping[str, Any]) -> registry_pb2.Heartbeat:
    """Luthier 0.1: `{"expires_at": <seconds since the epoch>}`."""
    return _until(float(value["expires_at"]))
