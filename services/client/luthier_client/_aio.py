"""The client of programs with an event loop. Cancelling the task that waits for a call ends the call."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier_client._calls import OPTIONS, Connection, OnProgress, Retry, Target, Waits, identified
from luthier_client._errors import Internal, LuthierError, error_of

T = TypeVar("T")
DEFAULT_RETRY = Retry()
Events = AsyncGenerator[pb.StreamGenerateResponse, None]


class AsyncClient:
    """As `Client`, for asyncio; made and used in one event loop."""

    def __init__(
        self, address: str, *, token: str = "", token_file: str | Path = "", tls_ca: str | Path = "",
        tls_cert: str | Path = "", tls_key: str | Path = "", retry: Retry = DEFAULT_RETRY, timeout_s: float = 3600.0,
    ) -> None:  # fmt: skip
        self._connection = Connection(address, token, token_file, tls_ca, tls_cert, tls_key)
        self._retry, self._timeout_s = retry, timeout_s
        secret = self._connection.credentials()
        self._channel = (
            grpc.aio.insecure_channel(address, options=OPTIONS)
            if secret is None
            else grpc.aio.secure_channel(address, secret, options=OPTIONS)
        )
        self._stub: Any = InferenceServiceStub(self._channel)  # the type stubs of old gRPC know none for asyncio

    async def generate(self, request: pb.GenerateRequest, *, timeout_s: float | None = None) -> pb.GenerateResponse:
        """Makes audio. Its bytes are in the response where `inline_audio` asks for them and they have at most 3 MiB."""
        own = identified(request)
        made: pb.GenerateResponse = await self._unary(self._stub.Generate, own, own.request_id, timeout_s)
        return made

    async def stream(
        self, request: pb.GenerateRequest, *, pieces: bool = False, timeout_s: float | None = None
    ) -> Events:
        """As `Client.stream`. Close it (`contextlib.aclosing`) where its loop may be left early."""
        own = identified(request)

        async def begun() -> tuple[pb.StreamGenerateResponse, Events]:
            events = self._events(own, pieces, timeout_s)
            return await anext(events), events

        first, events = await self._retrying(begun)
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    async def to_file(
        self, request: pb.GenerateRequest, path: str | Path, *, on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
    ) -> pb.GenerateResponse:  # fmt: skip
        """As `Client.to_file`; the file is written in threads."""
        own, target = identified(request), Target(path)

        async def written() -> pb.GenerateResponse:
            response: pb.GenerateResponse | None = None
            with target.opened() as file:
                async with aclosing(self._events(own, False, timeout_s)) as events:
                    async for event in events:
                        if event.HasField("progress") and on_progress:
                            on_progress(event.progress)
                        elif event.HasField("response"):
                            response = event.response
                        elif event.audio_chunk:
                            await asyncio.to_thread(file.write, event.audio_chunk)
            if response is None:
                raise Internal("the stream ended without a response", request_id=own.request_id)
            await asyncio.to_thread(target.finish, response)
            return response

        return await self._retrying(written)

    async def models(self, name: str = "") -> pb.ListModelsResponse:
        """The registered versions, of one name or of all."""
        asked, request_id = pb.ListModelsRequest(name=name), uuid.uuid4().hex
        found: pb.ListModelsResponse = await self._unary(self._stub.ListModels, asked, request_id, None)
        return found

    async def usage(self) -> pb.GetUsageResponse:
        """What this caller had of its quotas today."""
        asked, request_id = pb.GetUsageRequest(), uuid.uuid4().hex
        found: pb.GetUsageResponse = await self._unary(self._stub.GetUsage, asked, request_id, None)
        return found

    async def close(self) -> None:
        """Ends the calls that run."""
        await self._channel.close(None)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _unary(self, method: Any, request: Any, request_id: str, timeout_s: float | None) -> Any:
        async def answered() -> Any:
            said = self._connection.metadata(request_id)
            try:
                return await method(request, timeout=timeout_s or self._timeout_s, metadata=said)
            except grpc.aio.AioRpcError as error:
                raise error_of(error, request_id) from None

        return await self._retrying(answered)

    async def _events(self, request: pb.GenerateRequest, pieces: bool, timeout_s: float | None) -> Events:
        call = self._stub.StreamGenerate(
            pb.StreamGenerateRequest(request=request, pieces=pieces),
            timeout=timeout_s or self._timeout_s,
            metadata=self._connection.metadata(request.request_id),
        )
        try:
            async for event in call:
                yield event
        except grpc.aio.AioRpcError as error:
            raise error_of(error, request.request_id) from None
        finally:
            call.cancel()

    async def _retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        waits = Waits(self._retry)
        while True:
            try:
                return await attempt()
            except LuthierError as error:
                await asyncio.sleep(waits.after(error))
