"""The client of programs with threads, or with none."""

import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier_client._calls import OPTIONS, Cancel, Connection, OnProgress, Retry, Target, Waits, identified
from luthier_client._errors import Cancelled, Internal, LuthierError, error_of

T = TypeVar("T")
DEFAULT_RETRY = Retry()


class Client:
    """Calls an inference service at `address` (`host:port`, or `dns:///name:port` for all its replicas).

    Methods raise `LuthierError`s. What a server refuses for now is tried again as `retry` says, after the server's
    hint. `timeout_s` bounds one attempt. Threads may share a client.
    """

    def __init__(
        self, address: str, *, token: str = "", token_file: str | Path = "", tls_ca: str | Path = "",
        tls_cert: str | Path = "", tls_key: str | Path = "", retry: Retry = DEFAULT_RETRY, timeout_s: float = 3600.0,
    ) -> None:  # fmt: skip
        self._connection = Connection(address, token, token_file, tls_ca, tls_cert, tls_key)
        self._retry, self._timeout_s = retry, timeout_s
        secret = self._connection.credentials()
        self._channel = (
            grpc.insecure_channel(address, options=OPTIONS)
            if secret is None
            else grpc.secure_channel(address, secret, options=OPTIONS)
        )
        self._stub = InferenceServiceStub(self._channel)

    def generate(
        self, request: pb.GenerateRequest, *, timeout_s: float | None = None, cancel: Cancel | None = None
    ) -> pb.GenerateResponse:
        """Makes audio. Its bytes are in the response where `inline_audio` asks for them and they have at most 3 MiB."""
        own = identified(request)
        made: pb.GenerateResponse = self._unary(self._stub.Generate, own, own.request_id, timeout_s, cancel)
        return made

    def stream(
        self, request: pb.GenerateRequest, *, pieces: bool = False, timeout_s: float | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[pb.StreamGenerateResponse]:  # fmt: skip
        """Makes audio and tells how far it is: events `progress`, with `pieces` also `piece`, then `response`, then
        `audio_chunk`s, which are the file. Closing the iterator, or leaving its loop, ends the generation.

        It is tried again until its first event; a stream that breaks later raises Unavailable.
        """
        own, given_up = identified(request), cancel or Cancel()

        def begun() -> Generator[pb.StreamGenerateResponse, None, None]:
            events = self._events(own, pieces, timeout_s, given_up)
            first = next(events)
            return _behind(first, events)

        events = self._retrying(begun, given_up)
        try:
            yield from events
        finally:
            events.close()

    def to_file(
        self, request: pb.GenerateRequest, path: str | Path, *, on_progress: OnProgress | None = None,
        timeout_s: float | None = None, cancel: Cancel | None = None,
    ) -> pb.GenerateResponse:  # fmt: skip
        """Makes audio of any length into a file, which is there when it is whole. A stream that breaks is begun again:
        the same request is the same audio, and what was made is stored.
        """
        own, target, given_up = identified(request), Target(path), cancel or Cancel()

        def written() -> pb.GenerateResponse:
            response: pb.GenerateResponse | None = None
            with target.opened() as file:
                for event in self._events(own, False, timeout_s, given_up):
                    if event.HasField("progress") and on_progress:
                        on_progress(event.progress)
                    elif event.HasField("response"):
                        response = event.response
                    file.write(event.audio_chunk)
            if response is None:
                raise Internal("the stream ended without a response", request_id=own.request_id)
            target.finish(response)
            return response

        return self._retrying(written, given_up)

    def models(self, name: str = "") -> pb.ListModelsResponse:
        """The registered versions, of one name or of all."""
        asked, request_id = pb.ListModelsRequest(name=name), uuid.uuid4().hex
        found: pb.ListModelsResponse = self._unary(self._stub.ListModels, asked, request_id, None, None)
        return found

    def usage(self) -> pb.GetUsageResponse:
        """What this caller had of its quotas today."""
        asked, request_id = pb.GetUsageRequest(), uuid.uuid4().hex
        found: pb.GetUsageResponse = self._unary(self._stub.GetUsage, asked, request_id, None, None)
        return found

    def close(self) -> None:
        """Ends the calls that run."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unary(self, method: Any, request: Any, request_id: str, timeout_s: float | None, cancel: Cancel | None) -> Any:
        given_up = cancel or Cancel()

        def answered() -> Any:
            call = method.future(
                request, timeout=timeout_s or self._timeout_s, metadata=self._connection.metadata(request_id)
            )
            with given_up.ending(call):
                try:
                    return call.result()
                except grpc.FutureCancelledError:
                    raise Cancelled("given up by the caller", request_id=request_id) from None
                except grpc.RpcError as error:
                    raise error_of(error, request_id) from None

        return self._retrying(answered, given_up)

    def _events(
        self, request: pb.GenerateRequest, pieces: bool, timeout_s: float | None, cancel: Cancel
    ) -> Generator[pb.StreamGenerateResponse, None, None]:
        call: Any = self._stub.StreamGenerate(
            pb.StreamGenerateRequest(request=request, pieces=pieces),
            timeout=timeout_s or self._timeout_s,
            metadata=self._connection.metadata(request.request_id),
        )
        with cancel.ending(call):
            try:
                yield from call
            except grpc.RpcError as error:
                raise error_of(error, request.request_id) from None
            finally:
                call.cancel()

    def _retrying(self, attempt: Callable[[], T], cancel: Cancel) -> T:
        waits = Waits(self._retry)
        while True:
            try:
                cancel.wait(0)
                return attempt()
            except LuthierError as error:
                cancel.wait(waits.after(error))


def _behind(
    first: pb.StreamGenerateResponse, events: Generator[pb.StreamGenerateResponse, None, None]
) -> Generator[pb.StreamGenerateResponse, None, None]:
    try:
        yield first
        yield from events
    finally:
        events.close()
