"""Heartbeats of a runner: a series of its own, `heartbeats/<run id>/<runner>/<n>.json`; the newest says until when.

Nothing is overwritten; what lies two beats back is deleted by the one who beats.
"""

from __future__ import annotations

import time

from luthier_kit.artifacts import Artifacts

EXPIRY_S = 60.0
"""How long a silent runner counts as alive; the clocks of machines must agree much better than this."""


class Heartbeat:
    """Tells a dead runner from a slow one. `runner` names one process, for ever: a new process takes a new name."""

    def __init__(self, store: Artifacts, run_id: str, runner: str) -> None:
        self._store, self._name, self._seq = store, f"heartbeats/{run_id}/{runner}", 0

    def beat(self, expiry_s: float = EXPIRY_S) -> None:
        """Be alive until `expiry_s` from now. Call it about four times in that time."""
        self._seq = self._store.append(self._name, {"expires_at": time.time() + expiry_s}, after=self._seq)
        if self._seq > 2:
            self._store.objects.delete(f"{self._name}/{self._seq - 2}.json")

    def stop(self) -> None:
        """Be dead from now on, so that nobody waits for the expiry."""
        for key in list(self._store.objects.keys(f"{self._name}/")):
            self._store.objects.delete(key)

    def alive(self) -> bool:
        """True while the newest beat has not expired."""
        newest = self._store.latest(self._name)
        return newest is not None and float(newest[1]["expires_at"]) > time.time()
