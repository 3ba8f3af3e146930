"""The addresses behind one name, and which of them has the most room.

`host:port` may resolve to many addresses (a headless Service). They are resolved again every few seconds, every second
while none can take a call, and at once after a call that reached nobody. What is no longer there gets no new calls and
is closed when its last one ends.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from luthier_kit import tracing
from luthier_kit.credentials import Credentials
from luthier_kit.errors import Cancelled, Unavailable

RESOLVE_EVERY_S = 10.0
RESOLVE_IN_NEED_S = 1.0
OPTIONS = [
    ("grpc.enable_retries", 0),  # the client retries, on another address where there is one
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
    secret: grpc.ChannelCredentials | None = None
    in_flight: int = 0
    streams: int = 0  # that have had their first message: they are no load, but keep the channel
    rest_until: float = 0.0

    @property
    def load(self) -> float:
        """Calls in flight per slot."""
        return self.in_flight / self.slots


class Endpoints:
    """All of one target. Thread-safe.

    `slots_hint` is believed until a server has said how many calls it takes at once; twice that many are sent.
    """

    def __init__(
        self, target: str, stub: Callable[[grpc.Channel], Any], slots_hint: int, credentials: Credentials
    ) -> None:
        self.target = target
        self._stub = stub
        self._slots_hint = slots_hint
        self._credentials = credentials
        self._known: dict[str, Endpoint] = {}
        self._leaving: list[Endpoint] = []
        self._change = threading.Condition()
        self._resolve_at = 0.0
        self._resolving = False
        self._closed = False

    def take(self, give_up: float) -> Endpoint:
        """The endpoint with the most room, waiting until there is one. Raises Unavailable at the time `give_up`."""
        while True:
            self._resolve()
            with self._change:
                if self._closed:
                    raise Cancelled("the client was closed", reason="CLIENT_CLOSED")
                now = time.monotonic()
                awake = [e for e in self._known.values() if e.rest_until <= now]
                free = [e for e in awake if e.in_flight < 2 * e.slots]
                if free:
                    best = min(free, key=lambda endpoint: endpoint.load)
                    best.in_flight += 1
                    return best
                if now >= give_up:
                    raise Unavailable(f"no server at {self.target} can take the call", reason="UNREACHABLE")
                if not awake:
                    self._resolve_at = min(self._resolve_at, now + RESOLVE_IN_NEED_S)
                rests = [e.rest_until - now for e in self._known.values() if e.rest_until > now]
                self._change.wait(max(0.01, min([*rests, give_up - now, 1.0])))

    def release(self, endpoint: Endpoint, *, rest_s: float = 0.0) -> None:
        """A call has ended. With `rest_s` it found nobody or no room: the address rests, and others are looked for."""
        with self._change:
            endpoint.in_flight -= 1
            if rest_s:
                endpoint.rest_until = time.monotonic() + rest_s
                self._resolve_at = 0.0
            self._close_idle()
            self._change.notify_all()

    @contextmanager
    def streaming(self, endpoint: Endpoint) -> Iterator[None]:
        """Keeps the channel of a stream open."""
        with self._change:
            endpoint.streams += 1
        try:
            yield
        finally:
            with self._change:
                endpoint.streams -= 1
                self._close_idle()

    def close(self) -> None:
        """Closes all channels: calls that run or wait end as Cancelled."""
        with self._change:
            self._closed = True
            for endpoint in (*self._known.values(), *self._leaving):
                endpoint.channel.close()
            self._known.clear()
            self._leaving.clear()
            self._change.notify_all()

    def _resolve(self) -> None:
        with self._change:
            if self._closed or self._resolving or time.monotonic() < self._resolve_at:
                return
            self._resolving = True
        found, secret = None, None
        try:
            found, secret = _addresses(self.target), self._credentials.secret()  # slow at times: without the lock
        finally:
            with self._change:
                self._resolving = False
                self._resolve_at = time.monotonic() + (RESOLVE_EVERY_S if found else RESOLVE_IN_NEED_S)
                if found is not None and not self._closed:
                    self._renew(found, secret)
                self._change.notify_all()

    def _renew(self, addresses: set[str], secret: grpc.ChannelCredentials | None) -> None:
        for address in [a for a, e in self._known.items() if a not in addresses or e.secret is not secret]:
            self._leaving.append(self._known.pop(address))
        self._close_idle()
        for address in addresses - self._known.keys():
            channel = tracing.traced(self._channel(address, secret))
            self._known[address] = Endpoint(channel, self._stub(channel), self._slots_hint, secret)

    def _close_idle(self) -> None:
        for endpoint in [e for e in self._leaving if not e.in_flight and not e.streams]:
            self._leaving.remove(endpoint)
            endpoint.channel.close()

    def _channel(self, address: str, secret: grpc.ChannelCredentials | None) -> grpc.Channel:
        if secret is None:
            return grpc.insecure_channel(address, options=OPTIONS)
        host = self.target.rpartition(":")[0].strip("[]")  # the certificate is the service's, not an address's
        return grpc.secure_channel(address, secret, options=[*OPTIONS, ("grpc.ssl_target_name_override", host)])


def _addresses(target: str) -> set[str] | None:
    """`ip:port` of every address behind host:port; empty while the name has none, None while nobody can tell."""
    host, _, port = target.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return None if error.errno == socket.EAI_AGAIN else set()
    except OSError:
        return None
    hosts = {str(info[4][0]) for info in found}
    v4 = {ip for ip in hosts if ipaddress.ip_address(ip).version == 4}
    return {f"{ip}:{port}" if ":" not in ip else f"[{ip}]:{port}" for ip in v4 or hosts}
