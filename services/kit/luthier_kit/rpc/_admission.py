"""Admission: what a server takes at once, so that it refuses early, stays answering and says so in its metrics.

Calls come in five sorts: calls whose message has not arrived yet, work, work that its service schedules, quick calls,
and streams that wait. Each has a limit of its own. Work is `slots` calls at once and one waiting for each slot; more
are refused at once with a hint when to come back. A service that schedules its work gets every such call up to a bound,
so that it can refuse what is wrong and answer what is known before anything waits; when it is full is for the service
to say. Quick calls and waiting streams do not wait behind work, so that a status or a cancel always gets through.
Everything here but `Workload` runs in the server's event loop: no locks.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from luthier_kit.rpc import _telemetry as telemetry
from luthier_kit.rpc._errors import CALLER_IN_FLIGHT, Busy, QuotaExceeded

LIGHT_CALLS = 16
WATCHERS = 64
REFLECTIONS = 16
OPENING_CALLS = 1024
"""Calls of all connections whose message has not arrived: they cost memory, and no thread."""
OPENING_CALLS_PER_CONNECTION = 128
OPENING_S = 10.0
"""How long a call may go without its message."""

Release = Callable[[], None]


class Limit:
    """A number of places; who finds none is refused at once."""

    def __init__(self, places: int, refusal: Callable[[], Exception], gauge: Gauge | None = None) -> None:
        self.places, self._refusal, self._gauge = places, refusal, gauge
        self.taken = 0

    def take(self) -> Release:
        """Takes a place; call what it returns, once, to give it back."""
        if self.taken >= self.places:
            raise self._refusal()
        self._add(1)
        return lambda: self._add(-1)

    def _add(self, count: int) -> None:
        self.taken += count
        if self._gauge:
            self._gauge.inc(count)


class Admission:
    """The limits of one service."""

    def __init__(self, service: str, slots: int, caller_in_flight: int = 0, scheduled: int = 0) -> None:
        self.slots = slots
        self._running = asyncio.Semaphore(slots)
        self._refused = telemetry.REFUSED.labels(service)
        self._in_flight = telemetry.IN_FLIGHT.labels(service)
        self._waiting = telemetry.WAITING.labels(service)
        self.opening_calls = Limit(OPENING_CALLS, self._busy, telemetry.OPENING.labels(service))
        self._opening_of: Counter[str] = Counter()
        self.queue = Limit(2 * slots, self._busy)
        self.scheduled = Limit(scheduled, self._busy)
        self.light = Limit(LIGHT_CALLS, self._busy)
        self.watch = Limit(WATCHERS, self._busy)
        self.reflection = Limit(REFLECTIONS, self._busy)
        self._callers = _CallerLimit(service, caller_in_flight)
        self._service = service
        telemetry.SLOTS.labels(service).set(slots)

    @property
    def threads(self) -> int:
        """Threads that the server needs: one for each call that may run."""
        return self.slots + self.scheduled.places + LIGHT_CALLS + WATCHERS

    @contextmanager
    def opening(self, connection: str) -> Iterator[None]:
        """For a call until its message is there. `connection` is the peer's address with its port."""
        if self._opening_of[connection] >= OPENING_CALLS_PER_CONNECTION:
            telemetry.OPENING_REFUSED.labels(self._service, "connection").inc()
            text = f"{OPENING_CALLS_PER_CONNECTION} calls of this connection have sent no message yet"
            raise Busy(text, reason="TOO_MANY_OPENING_CALLS", retry_after_s=1.0)
        release = self.opening_calls.take()
        self._opening_of[connection] += 1
        try:
            yield
        finally:
            release()
            self._opening_of[connection] -= 1
            if not self._opening_of[connection]:
                del self._opening_of[connection]

    async def work(self, caller: str) -> Release:
        """For work: a place in the queue at once, or Busy; then a slot. Cancelling the wait gives both back."""
        held = [self._callers.take(caller)]
        try:
            held.append(self.queue.take())
            with self._waiting.track_inprogress():
                await self._running.acquire()
        except BaseException:
            for release in held:
                release()
            raise
        self._in_flight.inc()

        def finished() -> None:
            self._in_flight.dec()
            self._running.release()
            for release in held:
                release()

        return finished

    def of_service(self, caller: str) -> Release:
        """For work that its service schedules: at once, or Busy."""
        given_back = self._callers.take(caller)
        try:
            place = self.scheduled.take()
        except BaseException:
            given_back()
            raise

        def finished() -> None:
            place()
            given_back()

        return finished

    def _busy(self) -> Busy:
        self._refused.inc()
        return Busy("every slot is taken and the queue is full", retry_after_s=1.0)


class Workload:
    """What a service that schedules its work tells of it in the metrics of every service."""

    def __init__(self, service: str) -> None:
        self._in_flight, self._waiting = telemetry.IN_FLIGHT.labels(service), telemetry.WAITING.labels(service)
        self._refused = telemetry.REFUSED.labels(service)

    def tell(self, in_flight: int, waiting: int) -> None:
        """Calls that are worked on, and calls that wait."""
        self._in_flight.set(in_flight)
        self._waiting.set(waiting)

    def refused(self) -> None:
        """A call was refused because there was no room."""
        self._refused.inc()


class _CallerLimit:
    """Bounds the calls of work, running and waiting, that one caller has in this process. 0 = no bound."""

    def __init__(self, service: str, bound: int) -> None:
        self.bound = bound
        self._held: Counter[str] = Counter()
        self._refused = telemetry.REFUSED_BY_CALLER_LIMIT.labels(service)

    def take(self, caller: str) -> Release:
        """For one call. Raises QuotaExceeded CALLER_IN_FLIGHT: later there is room again."""
        if self.bound and self._held[caller] >= self.bound:
            self._refused.inc()
            text = f"{caller} has {self.bound} calls of work in flight at this server, as many as a caller may have"
            raise QuotaExceeded(text, reason=CALLER_IN_FLIGHT, bound=str(self.bound))
        self._held[caller] += 1

        def release() -> None:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]

        return release
