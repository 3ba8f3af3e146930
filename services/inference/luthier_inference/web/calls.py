"""Calls of the service's own gRPC server for an HTTP client: with its credentials, and ended when it leaves."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

import grpc
from anyio import CapacityLimiter, to_thread
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.requests import Request

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier.server.v1 import server_pb2, server_pb2_grpc
from luthier_kit.rpc import (
    REQUEST_ID_KEY,
    TOKEN_KEY,
    Cancelled,
    DeadlineExceeded,
    LuthierError,
    error_of_call,
    forwarded,
    new_request_id,
)
from luthier_kit.web import MAX_CONNECTIONS

QUICK_S: Final = 30.0  # how long a quick call may take
DETECT_S: Final = 300.0  # for ten minutes of sound, held against all outputs
MAX_REQUEST_ID_CHARS: Final = 128
MAX_TOKEN_CHARS: Final = 4096  # gRPC refuses metadata beyond 8 KiB with a status of its own
UNREADABLE: Final = "unreadable"  # a header that gRPC cannot carry is nobody's token
TRACE_KEYS: Final = ("traceparent", "tracestate")
OPTIONS: Final = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", 8 << 20)]
T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]


def metadata_of(request: Request) -> Metadata:
    """What goes with the calls of an HTTP request: its id, its token, its client, its trace."""
    tokens = ((TOKEN_KEY, _carried(value)) for value in request.headers.getlist(TOKEN_KEY)[:2])
    traces = ((key, request.headers[key]) for key in TRACE_KEYS if key in request.headers)
    client = (request.client.host, request.client.port) if request.client else None
    return (
        (REQUEST_ID_KEY, request_id_of(request)),
        *tokens,
        *((key, value) for key, value in traces if _is_plain(value, MAX_TOKEN_CHARS)),
        *forwarded(client),
    )


def request_id_of(request: Request) -> str:
    """The id of an HTTP request: the client's own where it is plain, else one that is made when first asked for."""
    if not hasattr(request.state, "request_id"):
        own = request.headers.get(REQUEST_ID_KEY, "")
        request.state.request_id = own if own and _is_plain(own, MAX_REQUEST_ID_CHARS) else new_request_id()
    return str(request.state.request_id)


async def attended(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. When the client leaves before, the work is cancelled, and Cancelled raised. The body of the
    request must have been read."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Cancelled("the client went away")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Calls:
    """The gRPC server of this process. A call that waits holds a thread; there are as many as connections."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target, options=OPTIONS)
        self._inference = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._server = server_pb2_grpc.ServerServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._threads = CapacityLimiter(MAX_CONNECTIONS)

    def close(self) -> None:
        """Ends the calls that are left."""
        self._channel.close()

    async def generate(self, asked: pb.GenerateRequest, timeout_s: float, metadata: Metadata) -> pb.GenerateResponse:
        """The response to one generation."""
        call = self._inference.Generate.future(asked, timeout=timeout_s, metadata=metadata)
        response: pb.GenerateResponse = await self._awaited(call)
        return response

    async def stream(
        self, asked: pb.GenerateRequest, timeout_s: float, metadata: Metadata
    ) -> AsyncGenerator[pb.StreamGenerateResponse, None]:
        """The events of one generation. Closing the iterator cancels the call."""
        stream_request = pb.StreamGenerateRequest(request=asked)
        call = self._inference.StreamGenerate(stream_request, timeout=timeout_s, metadata=metadata)
        events: Iterator[pb.StreamGenerateResponse] = iter(call)
        try:
            while (event := await self._in_thread(lambda: next(events, None))) is not None:
                yield event
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # does nothing to one that has ended

    async def models(self, metadata: Metadata) -> pb.ListModelsResponse:
        """The registered models."""
        call = self._inference.ListModels.future(pb.ListModelsRequest(), timeout=QUICK_S, metadata=metadata)
        response: pb.ListModelsResponse = await self._awaited(call)
        return response

    async def detect(self, upload: str, metadata: Metadata) -> pb.DetectMarksResponse:
        """What is found in a file that this front was sent."""
        asked = pb.DetectMarksRequest(upload=upload)
        call = self._inference.DetectMarks.future(asked, timeout=DETECT_S, metadata=metadata)
        response: pb.DetectMarksResponse = await self._awaited(call)
        return response

    async def permit_reading(self, metadata: Metadata) -> None:
        """Raises what the gRPC server answers to a caller who may not read."""
        asked = server_pb2.GetConfigurationRequest()
        call = self._server.GetConfiguration.future(asked, timeout=QUICK_S, metadata=metadata)
        await self._awaited(call)

    async def serving(self) -> bool:
        """Whether the service says SERVING."""
        call = self._health.Check.future(health_pb2.HealthCheckRequest(), timeout=QUICK_S)
        try:
            answer = await self._awaited(call)
        except LuthierError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _awaited(self, call: Any) -> Any:
        """The response to a call that was begun; leaving ends the call."""
        try:
            return await self._in_thread(call.result)
        finally:
            call.cancel()

    async def _in_thread(self, wait: Callable[[], T]) -> T:
        """What a thread gets that waits for gRPC. One that nobody waits for any more ends with its call."""
        try:
            return await to_thread.run_sync(wait, abandon_on_cancel=True, limiter=self._threads)
        except grpc.FutureCancelledError:
            raise Cancelled("the call was cancelled") from None
        except grpc.RpcError as raw:
            error = error_of_call(raw)
            if error.reason == DeadlineExceeded.reason:  # gRPC's own
                raise DeadlineExceeded("the request took longer than its timeout_s") from None
            raise error from None


def _carried(header: str) -> str:
    return header if _is_plain(header, MAX_TOKEN_CHARS) else UNREADABLE


def _is_plain(text: str, max_chars: int) -> bool:
    """Whether gRPC's metadata can carry it."""
    return len(text) <= max_chars and text.isascii() and text.isprintable()
