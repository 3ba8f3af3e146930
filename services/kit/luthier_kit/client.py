"""Calls a service: a channel per address, the least loaded first, within what each server says it can take.

A target `host:port` may resolve to many addresses (a headless Service); they are resolved again every few seconds. A
call goes to the address with the most room, moves on when a server is full or gone or we have all that one caller may
have there, and gives up after `patience_s`. Calls must be idempotent, as all of Luthier's are.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc

from luthier_kit import statuses, telemetry
from luthier_kit.callers import CALLER_IN_FLIGHT
from luthier_kit.credentials import Credentials
from luthier_kit.endpoints import Endpoint, Endpoints
from luthier_kit.errors import DeadlineExceeded, LuthierError, QuotaExceeded, Unavailable
from luthier_kit.guard import SLOTS_KEY
from luthier_kit.statuses import UNREACHABLE

log = logging.getLogger(__name__)
MAX_PAUSE_S = 5.0
MAX_LOST = 5  # servers that went away in the middle of one call: then it is the call, most likely
BEGUN_S = 2.0  # a connection that breaks later than this had a call in it that had begun


class Client:
    """Calls one service. Thread-safe.

    `slots_hint` is believed until a server has said how many calls it takes at once; twice that many are sent.
    `credentials` are those of the environment unless given. Raises SettingsError when they cannot work.
    """

    def __init__(
        self,
        target: str,
        stub: Callable[[grpc.Channel], Any],
        *,
        slots_hint: int = 1,
        credentials: Credentials | None = None,
    ) -> None:
        self.target = target
        self._credentials = credentials or Credentials()
        self._endpoints = Endpoints(target, stub, slots_hint, self._credentials)

    def call(self, method: str, request: Any, *, timeout_s: float = 60.0, patience_s: float = 60.0) -> Any:
        """One unary call. Raises the LuthierError that the server meant.

        `timeout_s` bounds one attempt; UNAVAILABLE is tried again, elsewhere if possible, for `patience_s` from the
        first time on: a server that dies after minutes of work leaves as long as one that was never there. A call with
        which server after server goes away in the middle ends as QuotaExceeded CALL_LOST before it takes them all.
        """
        return self._attempts(lambda endpoint: self._unary(endpoint, method, request, timeout_s), patience_s)

    def stream(
        self, method: str, request: Any, *, timeout_s: float = 3600.0, patience_s: float = 60.0
    ) -> Iterator[Any]:
        """A server stream; it is tried again only before its first message. Closing the iterator cancels the call."""

        with ExitStack() as held:

            def begin(endpoint: Endpoint) -> tuple[Any, list[Any]]:
                call = getattr(endpoint.stub, method)(request, timeout=timeout_s, metadata=self._metadata())
                first = [message for message in [next(call, None)] if message is not None]
                held.enter_context(self._endpoints.streaming(endpoint))
                return call, first

            call, first = self._attempts(begin, patience_s)
            held.callback(getattr(call, "cancel", None) or call.close)  # a traced call is a plain generator
            try:
                yield from first
                yield from call
            except grpc.RpcError as error:
                raise _error(error) from None

    def close(self) -> None:
        """Closes all channels: calls that run or wait end as Cancelled."""
        self._endpoints.close()

    def _unary(self, endpoint: Endpoint, method: str, request: Any, timeout_s: float) -> Any:
        response, call = getattr(endpoint.stub, method).with_call(request, timeout=timeout_s, metadata=self._metadata())
        endpoint.slots = int(dict(call.trailing_metadata() or ()).get(SLOTS_KEY, endpoint.slots))
        return response

    def _attempts(self, attempt: Callable[[Endpoint], Any], patience_s: float) -> Any:
        give_up, pause, failed, lost = time.monotonic() + patience_s, 0.1, False, 0
        while True:
            endpoint, rest_s = self._endpoints.take(give_up), 0.0
            begun = time.monotonic()
            try:
                return attempt(endpoint)
            except grpc.RpcError as raw:
                error = _error(raw)
                give_up, failed = give_up if failed else time.monotonic() + patience_s, True
                if not passes(error) or time.monotonic() + pause > give_up:
                    raise error from None
                lost += _was_lost(error, time.monotonic() - begun)
                if lost >= MAX_LOST:
                    text = f"{lost} servers went away in the middle of this call, the last: {error}"
                    raise QuotaExceeded(text, reason="CALL_LOST") from None
                retry_after_s = getattr(error, "retry_after_s", 1.0)
                rest_s = pause = min(MAX_PAUSE_S, max(2 * pause, min(retry_after_s, MAX_PAUSE_S)))
                log.debug("%s: %s; again in %.1f s", self.target, error, pause)
            finally:
                self._endpoints.release(endpoint, rest_s=rest_s)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        identity = telemetry.request_id.get() or telemetry.new_request_id()
        return ((telemetry.REQUEST_ID_KEY, identity), *self._credentials.metadata())


def _was_lost(error: LuthierError, after_s: float) -> bool:
    """Whether a server began the call and went away. gRPC says by its text alone that there was no connection yet."""
    return error.reason == UNREACHABLE and after_s > BEGUN_S and "failed to connect" not in str(error)


def passes(error: LuthierError) -> bool:
    """Whether the same call may be answered later."""
    return isinstance(error, Unavailable) or error.reason == CALLER_IN_FLIGHT


def _error(error: grpc.RpcError) -> LuthierError:
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("the call took longer than its deadline")
    return statuses.from_call(error)
