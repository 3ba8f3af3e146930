"""Calls a service: a channel per address, the least loaded first, within what each server says it can take.

A target `host:port` may resolve to many addresses (a headless Service); they are resolved again every few seconds. A
call goes to the address with the most room, moves on when a server is full or gone, and gives up after `patience_s`.
Calls must be idempotent, as all of Luthier's are.
"""

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from luthier_kit import statuses, telemetry, tracing
from luthier_kit.errors import Cancelled, DeadlineExceeded, LuthierError, Unavailable
from luthier_kit.guard import SLOTS_KEY

log = logging.getLogger(__name__)
RESOLVE_EVERY_S = 10.0
MAX_PAUSE_S = 5.0
OPTIONS = [
    ("grpc.enable_retries", 0),  # this client retries, on another address where there is one
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 8 << 20),
]


@dataclass
class Endpoint:
    """One address of a service and what it has to do for this client."""

    channel: grpc.Channel
    stub: Any
    slots: int
    in_flight: int = 0
    rest_until: float = 0.0

    @property
    def load(self) -> float:
        """Calls in flight per slot."""
        return self.in_flight / self.slots


class Client:
    """Calls one service. Thread-safe.

    `slots_hint` is believed until a server has said how many calls it takes at once; twice that many are sent.
    """

    def __init__(self, target: str, stub: Callable[[grpc.Channel], Any], *, slots_hint: int = 1) -> None:
        self.target = target
        self._stub = stub
        self._slots_hint = slots_hint
        self._endpoints: dict[str, Endpoint] = {}
        self._change = threading.Condition()
        self._resolve_at = 0.0
        self._closed = False

    def call(self, method: str, request: Any, *, timeout_s: float = 60.0, patience_s: float = 60.0) -> Any:
        """One unary call. Raises the LuthierError that the server meant.

        `timeout_s` bounds one attempt; UNAVAILABLE is tried again, elsewhere if possible, for `patience_s`.
        """
        return self._attempts(lambda endpoint: self._unary(endpoint, method, request, timeout_s), patience_s)

    def stream(
        self, method: str, request: Any, *, timeout_s: float = 3600.0, patience_s: float = 60.0
    ) -> Iterator[Any]:
        """A server stream; it is tried again only before its first message. Closing the iterator cancels the call."""

        def begin(endpoint: Endpoint) -> tuple[Any, list[Any]]:
            call = getattr(endpoint.stub, method)(request, timeout=timeout_s, metadata=_metadata())
            return call, [message for message in [next(call, None)] if message is not None]

        call, first = self._attempts(begin, patience_s)
        try:
            yield from first
            yield from call
        except grpc.RpcError as error:
            raise _error(error) from None
        finally:
            call.cancel()

    def close(self) -> None:
        """Closes all channels: calls that run or wait end as Cancelled."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            for endpoint in self._endpoints.values():
                endpoint.channel.close()
            self._endpoints.clear()

    def _unary(self, endpoint: Endpoint, method: str, request: Any, timeout_s: float) -> Any:
        response, call = getattr(endpoint.stub, method).with_call(request, timeout=timeout_s, metadata=_metadata())
        endpoint.slots = int(dict(call.trailing_metadata() or ()).get(SLOTS_KEY, endpoint.slots))
        return response

    def _attempts(self, attempt: Callable[[Endpoint], Any], patience_s: float) -> Any:
        give_up, pause = time.monotonic() + patience_s, 0.1
        while True:
            endpoint = self._take(give_up)
            try:
                return attempt(endpoint)
            except grpc.RpcError as raw:
                error = _error(raw)
                if not isinstance(error, Unavailable) or time.monotonic() + pause > give_up:
                    raise error from None
                pause = min(MAX_PAUSE_S, max(2 * pause, min(error.retry_after_s, MAX_PAUSE_S)))
                endpoint.rest_until = time.monotonic() + pause
                self._resolve_at = 0.0
                log.debug("%s: %s; again in %.1f s", self.target, error, pause)
            finally:
                with self._change:
                    endpoint.in_flight -= 1
                    self._change.notify_all()

    def _take(self, give_up: float) -> Endpoint:
        """The endpoint with the most room, waiting until there is one."""
        with self._change:
            while True:
                if self._closed:
                    raise Cancelled("the client was closed", reason="CLIENT_CLOSED")
                self._resolve()
                now = time.monotonic()
                free = [e for e in self._endpoints.values() if e.in_flight < 2 * e.slots and e.rest_until <= now]
                if free:
                    best = min(free, key=lambda endpoint: endpoint.load)
                    best.in_flight += 1
                    return best
                if now >= give_up:
                    raise Unavailable(f"no server at {self.target} can take the call", reason="UNREACHABLE")
                rests = [e.rest_until - now for e in self._endpoints.values() if e.rest_until > now]
                self._change.wait(max(0.01, min([*rests, give_up - now, 1.0])))

    def _resolve(self) -> None:
        if time.monotonic() < self._resolve_at:
            return
        self._resolve_at = time.monotonic() + RESOLVE_EVERY_S
        addresses = _addresses(self.target)
        for address in addresses - self._endpoints.keys():
            channel = tracing.traced(grpc.insecure_channel(address, options=OPTIONS))
            self._endpoints[address] = Endpoint(channel, self._stub(channel), self._slots_hint)
        for address in [a for a, e in self._endpoints.items() if a not in addresses and not e.in_flight]:
            self._endpoints.pop(address).channel.close()


def _addresses(target: str) -> set[str]:
    """`ip:port` of every address behind host:port; empty while the name does not resolve."""
    host, _, port = target.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return set()
    hosts = {str(info[4][0]) for info in found}
    v4 = {ip for ip in hosts if ipaddress.ip_address(ip).version == 4}
    return {f"{ip}:{port}" if ":" not in ip else f"[{ip}]:{port}" for ip in v4 or hosts}


def _metadata() -> tuple[tuple[str, str], ...]:
    return ((telemetry.REQUEST_ID_KEY, telemetry.request_id.get() or telemetry.new_request_id()),)


def _error(error: grpc.RpcError) -> LuthierError:
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("the call took longer than its deadline")
    return statuses.from_call(error)
