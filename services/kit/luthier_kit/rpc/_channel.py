"""A gRPC channel to a service with many addresses: generated stubs work over it, and raise the platform's errors.

    rendering = RenderingServiceStub(Channel("luthier-rendering:7100"))
    response = rendering.RenderSong(request, timeout=600)

A target `host:port` may resolve to many addresses (a headless Service); they are resolved again every few seconds,
every second while none can take a call, and at once after a call that reached no server. A call goes to the address
with the most room. When that server is full or gone, or refuses more calls of this caller, the call goes to another
address, until the retry budget is spent. An address that has left the name gets no new calls and is closed when its
last one ends. Calls must be idempotent, as all of Luthier's are.
"""

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc

from luthier_kit.rpc import _telemetry as telemetry
from luthier_kit.rpc import _tracing as tracing
from luthier_kit.rpc._credentials import Credentials
from luthier_kit.rpc._dispatch import SLOTS_KEY
from luthier_kit.rpc._errors import (
    UNREACHABLE,
    Cancelled,
    DeadlineExceeded,
    LuthierError,
    QuotaExceeded,
    Unavailable,
    error_of_call,
    is_retryable,
)
from luthier_kit.rpc._retry import RetryBudget, retry_policy

log = logging.getLogger(__name__)
T = TypeVar("T")
DEFAULT_TIMEOUT_S: Final = 60.0
DEFAULT_STREAM_TIMEOUT_S: Final = 3600.0
DEFAULT_RETRY_BUDGET_S: Final = 60.0
MAX_LOST: Final = 5  # servers that went away in the middle of one call: most likely the call is the cause
BEGUN_S: Final = 2.0  # when a connection breaks later than this, the server had begun the call
FIRST_REST_S: Final = 1.0  # of an address after a failed call; the hints of servers are mostly as long
RESOLVE_EVERY_S: Final = 10.0
RESOLVE_IN_NEED_S: Final = 1.0
OPTIONS: Final = [
    ("grpc.enable_retries", 0),  # this channel retries, on another address where there is one
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 8 << 20),
]


@dataclass
class Address:
    """One address of a service and what it has to do for this channel."""

    channel: grpc.Channel
    slots: int
    secret: grpc.ChannelCredentials | None = None
    in_flight: int = 0
    streams: int = 0  # that have had their first message: they do not count as load, but keep the channel open
    rest_until: float = 0.0
    methods: dict[str, Any] = field(default_factory=dict)

    @property
    def load(self) -> float:
        """Calls in flight per slot."""
        return self.in_flight / self.slots


class Channel(grpc.Channel):
    """A channel to all addresses of one target. Thread-safe.

    `timeout` of a call bounds one attempt, in seconds (default 60, streams 3600). Retryable errors are tried again, at
    another address if possible, for `retry_budget_s` from the first failure on. When MAX_LOST servers went away in the
    middle of one call, it ends as QuotaExceeded CALL_LOST, so that it does not bring down all of them. `slots_hint` is
    the number of calls that a server takes at once, until it has sent its own; twice as many are sent. `credentials`
    are those of the environment unless given. `on_wait` is told why a call waits, each time that it does, by the thread
    of the call. Raises SettingsError when they cannot work.
    """

    def __init__(
        self,
        target: str,
        *,
        slots_hint: int = 1,
        credentials: Credentials | None = None,
        retry_budget_s: float = DEFAULT_RETRY_BUDGET_S,
        on_wait: Callable[[LuthierError], None] = lambda _why: None,
    ) -> None:
        self.target = target
        self.retry_budget_s = retry_budget_s
        self._slots_hint = slots_hint
        self._credentials = credentials or Credentials()
        self._on_wait = on_wait
        self._known: dict[str, Address] = {}
        self._leaving: list[Address] = []
        self._change = threading.Condition()
        self._resolve_at = 0.0
        self._resolving = False
        self._closed = False

    # --- what generated stubs ask of a channel

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        def make(channel: grpc.Channel) -> Any:
            return channel.unary_unary(method, request_serializer, response_deserializer)

        return _UnaryCall(self, method, make)

    def unary_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        def make(channel: grpc.Channel) -> Any:
            return channel.unary_stream(method, request_serializer, response_deserializer)

        return _StreamCall(self, make)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("no contract of Luthier streams requests")

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("no contract of Luthier streams requests")

    def subscribe(self, callback: Any, try_to_connect: Any = False) -> None:
        raise NotImplementedError("the addresses of a target have states of their own")

    def unsubscribe(self, callback: Any) -> None:
        raise NotImplementedError("the addresses of a target have states of their own")

    def close(self) -> None:
        """Closes all connections: calls that run or wait end as Cancelled."""
        with self._change:
            self._closed = True
            for address in (*self._known.values(), *self._leaving):
                address.channel.close()
            self._known.clear()
            self._leaving.clear()
            self._change.notify_all()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- attempts

    def attempts(self, attempt: Callable[[Address], T]) -> T:
        """Calls `attempt` with an address until it answers, fails for good, or the retry budget is spent."""
        budget = RetryBudget(self.retry_budget_s)
        first_by = time.monotonic() + self.retry_budget_s
        address: Address | None = None
        failure: LuthierError | None = None
        lost = 0

        def once() -> T:
            nonlocal address, failure, lost
            try:
                address = self._take(budget.ends_at if failure else first_by)
            except _NoRoom:
                if failure:
                    raise failure from None  # tells more than that no address can take the call now
                raise
            began = time.monotonic()
            try:
                return attempt(address)
            except grpc.RpcError as raw:
                failure = _error(raw)
                lost += _was_lost(failure, time.monotonic() - began)
                if lost >= MAX_LOST:
                    text = f"{lost} servers went away in the middle of this call, the last: {failure}"
                    raise QuotaExceeded(text, reason="CALL_LOST") from None
                raise failure from None
            finally:
                self._release(address)

        def rest(pause_s: float) -> None:
            """In place of a pause the address rests: another one may take the call at once."""
            log.debug("%s: %s; its address rests for %.1f s", self.target, failure, pause_s)
            if failure:
                self._on_wait(failure)
            if address:
                self._rest(address, min(time.monotonic() + pause_s, budget.ends_at))

        retrying = retry_policy(budget, _may_pass, first_s=FIRST_REST_S, sleep=rest)
        return retrying(once)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call: the request id and what the credentials add."""
        identity = telemetry.request_id.get() or telemetry.new_request_id()
        return ((telemetry.REQUEST_ID_KEY, identity), *self._credentials.metadata())

    # --- addresses

    def _take(self, give_up: float) -> Address:
        """The address with the most room, waiting until there is one. Raises Unavailable at the time `give_up`."""
        while True:
            self._resolve()
            if not self._known and not self._closed:
                self._on_wait(Unavailable(f"{self.target} has no address", reason=UNREACHABLE))
            with self._change:
                if self._closed:
                    raise Cancelled("the client was closed", reason="CLIENT_CLOSED")
                now = time.monotonic()
                awake = [address for address in self._known.values() if address.rest_until <= now]
                free = [address for address in awake if address.in_flight < 2 * address.slots]
                if free:
                    best = min(free, key=lambda address: address.load)
                    best.in_flight += 1
                    return best
                if now >= give_up:
                    raise _NoRoom(f"no server at {self.target} can take the call", reason=UNREACHABLE)
                if not awake:
                    self._resolve_at = min(self._resolve_at, now + RESOLVE_IN_NEED_S)
                rests = [address.rest_until - now for address in self._known.values() if address.rest_until > now]
                self._change.wait(max(0.01, min([*rests, give_up - now, 1.0])))

    def _release(self, address: Address) -> None:
        with self._change:
            address.in_flight -= 1
            self._close_idle()
            self._change.notify_all()

    def _rest(self, address: Address, until: float) -> None:
        """Gives an address no call until then, and resolves the name anew."""
        with self._change:
            address.rest_until = until
            self._resolve_at = 0.0
            self._change.notify_all()

    @contextmanager
    def streaming(self, address: Address) -> Iterator[None]:
        """Keeps the connection of a stream open."""
        with self._change:
            address.streams += 1
        try:
            yield
        finally:
            with self._change:
                address.streams -= 1
                self._close_idle()

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

    def _renew(self, names: set[str], secret: grpc.ChannelCredentials | None) -> None:
        for name in [n for n, address in self._known.items() if n not in names or address.secret is not secret]:
            self._leaving.append(self._known.pop(name))
        self._close_idle()
        for name in names - self._known.keys():
            self._known[name] = Address(tracing.traced(self._connection(name, secret)), self._slots_hint, secret)

    def _close_idle(self) -> None:
        for address in [a for a in self._leaving if not a.in_flight and not a.streams]:
            self._leaving.remove(address)
            address.channel.close()

    def _connection(self, address: str, secret: grpc.ChannelCredentials | None) -> grpc.Channel:
        if secret is None:
            return grpc.insecure_channel(address, options=OPTIONS)
        host = self.target.rpartition(":")[0].strip("[]")  # the certificate is the service's, not an address's
        return grpc.secure_channel(address, secret, options=[*OPTIONS, ("grpc.ssl_target_name_override", host)])


class _NoRoom(Unavailable):
    """Every address rests or is full and the budget is spent: it is not tried again."""


def _may_pass(error: BaseException) -> bool:
    return is_retryable(error) and not isinstance(error, _NoRoom)


@dataclass(frozen=True)
class _UnaryCall:
    """What a stub's unary method is over a `Channel`."""

    channel: Channel
    method: str
    make: Callable[[grpc.Channel], Any]

    def __call__(self, request: Any, timeout: float | None = None) -> Any:
        def attempt(address: Address) -> Any:
            call = address.methods.get(self.method) or address.methods.setdefault(
                self.method, self.make(address.channel)
            )
            response, done = call.with_call(
                request, timeout=timeout or DEFAULT_TIMEOUT_S, metadata=self.channel.metadata()
            )
            address.slots = int(dict(done.trailing_metadata() or ()).get(SLOTS_KEY, address.slots))
            return response

        return self.channel.attempts(attempt)


@dataclass(frozen=True)
class _StreamCall:
    """What a stub's server-streaming method is over a `Channel`: tried again only before its first message.

    Closing the iterator cancels the call.
    """

    channel: Channel
    make: Callable[[grpc.Channel], Any]

    def __call__(self, request: Any, timeout: float | None = None) -> Iterator[Any]:
        with ExitStack() as held:

            def begin(address: Address) -> tuple[Any, list[Any]]:
                call = self.make(address.channel)(
                    request, timeout=timeout or DEFAULT_STREAM_TIMEOUT_S, metadata=self.channel.metadata()
                )
                first = [message for message in [next(call, None)] if message is not None]
                held.enter_context(self.channel.streaming(address))
                return call, first

            call, first = self.channel.attempts(begin)
            held.callback(getattr(call, "cancel", None) or call.close)  # a traced call is a plain generator
            try:
                yield from first
                yield from call
            except grpc.RpcError as error:
                raise _error(error) from None


def _was_lost(error: LuthierError, after_s: float) -> bool:
    """Whether a server began the call and went away; that there was no connection yet is only in gRPC's text."""
    return error.reason == UNREACHABLE and after_s > BEGUN_S and "failed to connect" not in str(error)


def _error(error: grpc.RpcError) -> LuthierError:
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("the call took longer than its deadline")
    return error_of_call(error)


def _addresses(target: str) -> set[str] | None:
    """`ip:port` of every address behind host:port; empty when the name has none, None when that is unknown."""
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
