"""Admission: a bounded queue for work, and separate limits for quick calls and for watchers.

Work = `slots` calls at once and one waiting for each slot; more are refused at once with a hint when to come back.
Quick reads and long watches are admitted apart from work, so that a status or a cancel always gets through.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from luthier_kit.rpc import _telemetry as telemetry
from luthier_kit.rpc._errors import Busy, Cancelled

LIGHT_CALLS = 16
WATCHERS = 64
POLL_S = 0.1  # how soon a waiting call notices that its caller went away


class Admission:
    """The three limits of one service."""

    def __init__(self, service: str, slots: int) -> None:
        self.slots = slots
        self._queue = threading.BoundedSemaphore(2 * slots)
        self._running = threading.BoundedSemaphore(slots)
        self._light = threading.BoundedSemaphore(LIGHT_CALLS)
        self._watch = threading.BoundedSemaphore(WATCHERS)
        self._in_flight = telemetry.IN_FLIGHT.labels(service)
        self._waiting = telemetry.WAITING.labels(service)
        self._refused = telemetry.REFUSED.labels(service)
        telemetry.SLOTS.labels(service).set(slots)

    @property
    def threads(self) -> int:
        """Threads that the server needs, with some to refuse calls and answer health checks."""
        return 2 * self.slots + LIGHT_CALLS + WATCHERS + 16

    @contextmanager
    def light(self) -> Iterator[None]:
        """For quick calls."""
        with self._held(self._light):
            yield

    @contextmanager
    def watch(self) -> Iterator[None]:
        """For streams that wait."""
        with self._held(self._watch):
            yield

    @contextmanager
    def work(self, context: grpc.ServicerContext) -> Iterator[None]:
        """For work: waits for a slot as long as the caller does."""
        with self._held(self._queue):
            with self._waiting.track_inprogress():
                while not self._running.acquire(timeout=POLL_S):
                    if not context.is_active():
                        raise Cancelled("the caller went away while waiting for a slot")
            try:
                with self._in_flight.track_inprogress():
                    yield
            finally:
                self._running.release()

    @contextmanager
    def _held(self, places: threading.BoundedSemaphore) -> Iterator[None]:
        if not places.acquire(blocking=False):
            self._refused.inc()
            raise Busy("every slot is taken and the queue is full", retry_after_s=1.0)
        try:
            yield
        finally:
            places.release()
