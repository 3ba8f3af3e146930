"""How a server takes a call: headers, message, admission, the method in a thread, a status.

An event loop takes the calls, so that a call without a message costs no thread; methods are plain functions and run in
a bounded pool. The order for each call:

1. on its headers: the caller's name, permission, whether the service is ready;
2. its message, within OPENING_S and the limits of its connection; bytes that are no message are INVALID_ARGUMENT;
3. admission: a quick call, a stream that waits, work, which waits in a bounded queue, or what its service schedules;
4. the method in a thread; when the caller goes away its context says so, and the slot is free once the method returns;
5. errors as statuses, metrics, one log line.
"""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from luthier.common.v1 import common_pb2
from luthier_kit.rpc import _telemetry as telemetry
from luthier_kit.rpc._admission import OPENING_S, Admission, Release
from luthier_kit.rpc._callers import Callers, host, peer_of
from luthier_kit.rpc._errors import DeadlineExceeded, InvalidRequest, LuthierError, Unavailable, grpc_status_of

log = logging.getLogger(__name__)
T = TypeVar("T")
SLOTS_KEY: Final = "luthier-slots"  # trailing metadata: what this server can take at once from this caller
ALWAYS_LOGGED: Final = {"UNAUTHENTICATED", "PERMISSION_DENIED"}  # calls that an operator wants to see, however quick
REFLECTION_IDLE_S: Final = 30.0
_END: Final = object()
EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it


class CallContext(grpc.ServicerContext):
    """What a method sees of its call. Methods raise errors; they do not set statuses."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._gone = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        """False once the caller went away or its time ran out."""
        return not self._gone.is_set()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls `callback` when the caller goes away; False when it has gone already."""
        with self._lock:
            if self._gone.is_set():
                return False
            self._callbacks.append(callback)
            return True

    def gone(self) -> None:
        """The caller went away."""
        with self._lock:
            self._gone.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def time_remaining(self) -> float | None:  # type: ignore[override]  # the stubs forget calls without a deadline
        """Seconds until the caller's deadline; None without one."""
        left_s = self._context.time_remaining()
        return None if left_s is None else float(left_s)

    def peer(self) -> str:
        return str(self._context.peer())

    def invocation_metadata(self) -> Any:
        return self._context.invocation_metadata()

    def auth_context(self) -> Any:
        return self._context.auth_context()

    def peer_identities(self) -> Any:
        return self._context.peer_identities()

    def peer_identity_key(self) -> Any:
        return self._context.peer_identity_key()

    def cancel(self) -> Any:
        raise NotImplementedError("raise an error")

    def abort(self, code: Any, details: Any) -> Any:
        raise NotImplementedError("raise an error")

    def abort_with_status(self, status: Any) -> Any:
        raise NotImplementedError("raise an error")

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        raise NotImplementedError("the server sends what metadata there is")

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        raise NotImplementedError("the server sends what metadata there is")

    def set_code(self, code: Any) -> None:
        raise NotImplementedError("raise an error")

    def set_details(self, details: Any) -> None:
        raise NotImplementedError("raise an error")


@dataclass(frozen=True)
class Method:
    """One method of the contract, its implementation, and how it is admitted."""

    name: str
    function: Callable[[Any, grpc.ServicerContext], Any]
    request: type[Message]
    permission: int
    light: bool
    watch: bool
    scheduled: bool

    @classmethod
    def of(
        cls, descriptor: MethodDescriptor, servicer: object, light: Set[str], watch: Set[str], scheduled: Set[str]
    ) -> "Method":
        name = descriptor.name
        request = GetMessageClass(descriptor.input_type)
        options: Any = descriptor.GetOptions()  # the stubs do not know extensions of options
        permission: int = options.Extensions[common_pb2.permission]
        return cls(
            name, getattr(servicer, name), request, permission,
            light=name in light, watch=name in watch, scheduled=name in scheduled,
        )  # fmt: skip


class Dispatcher(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic for mypy, not at run time
    """Takes the calls of one service."""

    def __init__(
        self, contract: ServiceDescriptor, servicer: object, admission: Admission, callers: Callers, *,
        domain: str, light: Set[str], watch: Set[str], slots_told: int, scheduled: Set[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.name = contract.full_name
        self.domain = domain
        self.admission = admission
        self.callers = callers
        self.ready = False
        self.ending: set[asyncio.Task[None]] = set()  # streams whose generators are being closed
        self._slots = ((SLOTS_KEY, str(slots_told)),)
        self._pool = ThreadPoolExecutor(admission.threads, thread_name_prefix="call")
        self._handlers = {
            f"/{self.name}/{method.name}": self._handler(
                Method.of(method, servicer, light, watch, scheduled), streaming=method.server_streaming
            )
            for method in contract.methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)

    async def close(self, within_s: float = 1.0) -> None:
        """Lets streams close, then no thread begins another call."""
        if self.ending:
            await asyncio.wait(self.ending, timeout=within_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _handler(self, method: Method, *, streaming: bool) -> Any:
        # Requests are read as a stream of one: the method gets control before the message is there.
        if streaming:

            async def stream(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
                call = _Call(self, method, context)
                try:
                    async for response in call.stream():
                        yield response
                except BaseException as error:
                    await call.failed(error)
                finally:
                    call.end()

            return grpc.stream_stream_rpc_method_handler(stream)

        async def unary(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            call = _Call(self, method, context)
            try:
                return await call.unary()
            except BaseException as error:
                await call.failed(error)
                raise AssertionError("a failed call was aborted") from error
            finally:
                call.end()

        return grpc.stream_unary_rpc_method_handler(unary)

    def in_thread(self, function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        """Runs a function in a thread, with the request id and the trace of this call."""
        run = contextvars.copy_context().run
        return asyncio.get_running_loop().run_in_executor(self._pool, lambda: run(function, *arguments))


class _Call:
    """One call on its way through the dispatcher."""

    def __init__(self, dispatcher: Dispatcher, method: Method, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.dispatcher, self.method, self.context = dispatcher, method, context
        self.peer = peer_of(str(context.peer()), tuple(context.invocation_metadata() or ()))
        self.began = time.perf_counter()
        self.code = "OK"
        self.refused: dict[str, str] = {}
        self.own = CallContext(context)
        self.left: asyncio.Future[Any] | None = None  # what the thread of a call does that its caller has left

    async def unary(self) -> bytes:
        """The response of a unary method."""
        request, release = await self._begin()
        future = self.dispatcher.in_thread(self.method.function, request, self.own)
        future.add_done_callback(lambda _: release())
        response: Message = await self._attended(future)
        return response.SerializeToString()

    async def stream(self) -> AsyncIterator[bytes]:
        """The responses of a streaming method: a plain generator, advanced in a thread."""
        request, release = await self._begin()
        responses: Iterator[Message] = iter(())
        future: asyncio.Future[Any] = self.dispatcher.in_thread(self.method.function, request, self.own)
        try:
            responses = iter(await self._attended(future))
            while True:
                future = self.dispatcher.in_thread(next, responses, _END)
                response = await self._attended(future)
                if response is _END:
                    break
                yield response.SerializeToString()
        finally:
            self.own.gone()
            ending = asyncio.get_running_loop().create_task(self._end(future, responses, release))
            self.dispatcher.ending.add(ending)
            ending.add_done_callback(self.dispatcher.ending.discard)

    async def _end(self, future: "asyncio.Future[Any]", responses: Any, release: Release) -> None:
        """Closes a generator once its thread has left it, then gives the slot back."""
        try:
            await asyncio.wait([future])
            if hasattr(responses, "close"):
                await self.dispatcher.in_thread(responses.close)
        except RuntimeError as error:  # the pool was shut down
            log.debug("a stream was not closed: %s", error)
        finally:
            release()

    async def _begin(self) -> tuple[Message, Release]:
        """The request, and a place to work on it."""
        dispatcher = self.dispatcher
        metadata = self.context.invocation_metadata() or ()
        identity = dict(metadata).get(telemetry.REQUEST_ID_KEY) or telemetry.new_request_id()
        telemetry.request_id.set(str(identity)[:128])
        self.context.set_trailing_metadata(dispatcher._slots)
        caller = dispatcher.callers.name(tuple(metadata), self.context.auth_context() or {})
        telemetry.current_caller.set(caller)
        dispatcher.callers.permit(caller, self.method.permission)
        if not dispatcher.ready:
            raise Unavailable("the service is starting or stopping", reason="NOT_READY")
        with dispatcher.admission.opening(self.peer):
            data = await self._within(OPENING_S, self.context.read())
        try:
            request = self.method.request.FromString(b"" if data is EOF else data)
        except DecodeError:
            text = f"must be a {self.method.request.DESCRIPTOR.full_name}"
            raise InvalidRequest(reason="REQUEST_UNDECODABLE", violations=[("request", text)]) from None
        if data is EOF:
            raise InvalidRequest(reason="REQUEST_MISSING", violations=[("request", "must be sent")])
        if self.method.watch:
            return request, dispatcher.admission.watch.take()
        if self.method.light:
            return request, dispatcher.admission.light.take()
        if self.method.scheduled:
            return request, dispatcher.admission.of_service(caller or host(self.peer))
        return request, await dispatcher.admission.work(caller or host(self.peer))

    async def _within(self, seconds: float, read: Awaitable[T]) -> T:
        """What arrives in time. A timer is cheaper than a task of its own for each call."""
        task = asyncio.current_task()
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            if task:
                task.cancel()

        timer = asyncio.get_running_loop().call_later(seconds, give_up)
        try:
            return await read
        except asyncio.CancelledError:
            if not late:
                raise
            if task:
                task.uncancel()
            telemetry.OPENING_REFUSED.labels(self.dispatcher.name, "late").inc()
            raise DeadlineExceeded(
                f"no message came within {seconds:g} s of the call", reason="REQUEST_MISSING"
            ) from None
        finally:
            timer.cancel()

    async def _attended(self, future: "asyncio.Future[T]") -> T:
        """What a thread makes of it. A caller who goes away is told to the method, whose thread goes on to its end."""
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.own.gone()
            self.left = future
            raise

    async def failed(self, error: BaseException) -> None:
        """Ends the call with the status of an error."""
        if not isinstance(error, Exception):  # cancelled, its time ran out, or the stream was closed
            left_s = self.own.time_remaining()
            out_of_time = left_s is not None and left_s <= 0
            self.code = (grpc.StatusCode.DEADLINE_EXCEEDED if out_of_time else grpc.StatusCode.CANCELLED).name
            raise error
        self._name(error)
        status = grpc_status_of(error, self.dispatcher.domain)
        trailing = (*status.trailing_metadata, *self.dispatcher._slots)
        _forget_frames(error)
        await self.context.abort(status.code, status.details, trailing)

    def _name(self, error: BaseException) -> None:
        """The code of the call's end, for its metric and its line; a bug's trace goes to the log."""
        if isinstance(error, LuthierError):
            self.code = error.code.name
            self.refused = {"reason": error.reason, "peer": host(self.peer)}
            if error.public:  # the caller is told less
                log.error("%s: %s", self.method.name, error)
        else:
            self.code = grpc.StatusCode.INTERNAL.name
            log.error("%s failed", self.method.name, exc_info=error)

    def end(self) -> None:
        """The call is over. One that its caller left is accounted when its thread ends, by what became of it there."""
        if self.left is None:
            self._account()
        else:
            self.left.add_done_callback(self._left_to_its_end)

    def _left_to_its_end(self, future: "asyncio.Future[Any]") -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self._name(error)
        self._account()

    def _account(self) -> None:
        """Metrics and a log line."""
        seconds = time.perf_counter() - self.began
        telemetry.CALL_SECONDS.labels(self.dispatcher.name, self.method.name, self.code).observe(seconds)
        fields = {"method": self.method.name, "code": self.code, "seconds": round(seconds, 3), **self.refused}
        quiet = self.method.light and self.code not in ALWAYS_LOGGED
        log.log(logging.DEBUG if quiet else logging.INFO, "call", extra={"fields": fields})


def _forget_frames(error: BaseException | None) -> None:
    """The frames that an error came through hold the request and the future that holds the error: a circle, which
    would keep what may be a message of 4 MiB, decoded, until the collector comes by.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


class GuardedReflection(ReflectionServicer):  # type: ignore[misc]
    """gRPC's reflection, for those who may call the service: bounded in number, and ended when idle."""

    def __init__(self, names: tuple[str, ...], dispatcher: Dispatcher) -> None:
        super().__init__(names)
        self._dispatcher = dispatcher

    async def ServerReflectionInfo(
        self, request_iterator: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: Any
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        dispatcher = self._dispatcher
        try:
            dispatcher.callers.name(tuple(context.invocation_metadata() or ()), context.auth_context() or {})
            release = dispatcher.admission.reflection.take()
        except LuthierError as error:
            status = grpc_status_of(error, dispatcher.domain)
            await context.abort(status.code, status.details, status.trailing_metadata)
        try:
            async for response in super().ServerReflectionInfo(_while_busy(request_iterator), context):
                yield response
        finally:
            release()


async def _while_busy(requests: AsyncIterator[T]) -> AsyncIterator[T]:
    """Requests as they come; the stream ends when none comes for a while."""
    iterator = aiter(requests)
    while True:
        try:
            yield await asyncio.wait_for(anext(iterator), REFLECTION_IDLE_S)
        except (StopAsyncIteration, TimeoutError):
            return
