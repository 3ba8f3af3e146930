"""`POST /v1/audio/generate`: a generation answered as audio, as JSON or as server-sent events."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from anyio import CancelScope
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.generator import KIND
from luthier_inference.web import errors
from luthier_inference.web.body import Answer, Asked, read_body
from luthier_inference.web.calls import Calls, Metadata, attended, metadata_of, request_id_of
from luthier_inference.web.stored import url_of
from luthier_kit.rpc import Internal, InvalidRequest, LuthierError

KEEP_ALIVE_S: Final = 15.0  # of silence in a stream, after which a comment keeps proxies from ending it
NO_STORE: Final = {"Cache-Control": "no-store"}
Event = pb.StreamGenerateResponse
Events = AsyncGenerator[Event, None]


class Streamed(StreamingResponse):
    """A response whose content is closed when the client leaves, wherever it is then: that ends the generation."""

    def __init__(self, content: AsyncGenerator[bytes, None], media_type: str, headers: dict[str, str]) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await self._content.aclose()


async def generate(request: Request) -> Response:
    """The route."""
    asked = read_body(await request.body(), request.headers.get("accept", ""))
    calls: Calls = request.app.state.calls
    metadata = metadata_of(request)
    try:
        if asked.answer is Answer.JSON:
            return await _as_json(request, calls, asked, metadata)
        events = calls.stream(asked.request, asked.timeout_s, metadata)
        try:
            first = await attended(request, _next(events))
            if asked.answer is Answer.EVENTS:
                return _as_events(request, first, events)
            return await attended(request, _as_audio(request, first, events))
        except BaseException:
            await events.aclose()
            raise
    except InvalidRequest as error:
        raise asked.named(error) from None


async def _as_json(request: Request, calls: Calls, asked: Asked, metadata: Metadata) -> Response:
    response = await attended(request, calls.generate(asked.request, asked.timeout_s, metadata))
    return JSONResponse(response_dict(response), headers=headers_of(request, response))


async def _as_audio(request: Request, first: Event, events: Events) -> Response:
    """The bytes of the file, once the first of them is there: until then an error is an answer of its own."""
    event, response = first, pb.GenerateResponse()
    while event.WhichOneof("event") != "audio_chunk":
        if event.WhichOneof("event") == "response":
            response.CopyFrom(event.response)
        event = await _next(events)
    begins = event.audio_chunk

    async def chunks() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            yield begins
            async for more in events:
                yield more.audio_chunk

    url = url_of(response.audio.key)
    headers = headers_of(request, response) | {
        "Content-Location": url,
        "Content-Length": str(response.audio.size_bytes),
        "Content-Disposition": f'inline; filename="{url.rpartition("/")[2]}"',
    }
    return Streamed(chunks(), response.audio.media_type, headers)


def _as_events(request: Request, first: Event, events: Events) -> Response:
    async def lines() -> AsyncGenerator[bytes, None]:
        async with aclosing(events), aclosing(_kept_alive(events)) as kept_alive:
            try:
                yield event_line(first)
                async for event in kept_alive:
                    yield event_line(event)
                yield _line("done", {})
            except LuthierError as error:
                yield _line("error", errors.body_of(error))

    headers = {**NO_STORE, "X-Accel-Buffering": "no", "X-Request-Id": request_id_of(request)}
    return Streamed(lines(), "text/event-stream", headers)


async def _next(events: Events) -> Event:
    if (event := await _next_or_none(events)) is None:
        raise Internal("the stream ended without audio")
    return event


async def _next_or_none(events: Events) -> Event | None:
    async for event in events:
        return event
    return None


async def _kept_alive(events: Events) -> AsyncGenerator[Event | None, None]:
    """The events, and None for each KEEP_ALIVE_S without one."""
    ahead = asyncio.create_task(_next_or_none(events))
    try:
        while True:
            done, _ = await asyncio.wait({ahead}, timeout=KEEP_ALIVE_S)
            if not done:
                yield None
            elif (event := ahead.result()) is None:
                return
            else:
                yield event
                ahead = asyncio.create_task(_next_or_none(events))
    finally:
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)


def event_line(event: Event | None) -> bytes:
    """An event as its lines (HTML Living Standard, 9.2); None as a comment."""
    if event is None:
        return b": still here\n\n"
    if event.HasField("progress"):
        return _line("progress", as_dict(event.progress))
    if event.HasField("response"):
        return _line("response", response_dict(event.response))
    return _line("audio", {"audio": base64.b64encode(event.audio_chunk).decode()})


def _line(name: str, data: dict[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode()


def as_dict(message: Message) -> dict[str, Any]:
    """A message as protobuf's JSON mapping has it, by the names of the contract, values of zero included."""
    told: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return told


def response_dict(response: pb.GenerateResponse) -> dict[str, Any]:
    """A `GenerateResponse`, and where this server gives its audio."""
    told: dict[str, Any] = with_urls(as_dict(response))
    return told


def with_urls(told: Any) -> Any:
    """A part of an answer, and beside each generated `audio` in it, at any depth, its `audio_url`."""
    if isinstance(told, list):
        return [with_urls(each) for each in told]
    if not isinstance(told, dict):
        return told
    audio = told.get("audio")
    key = audio.get("key", "") if isinstance(audio, dict) else ""
    inner = {name: with_urls(each) for name, each in told.items()}
    return {"audio_url": url_of(key), **inner} if key.startswith(f"{KIND}/") else inner


def headers_of(request: Request, response: pb.GenerateResponse) -> dict[str, str]:
    """What an answer says in headers: what made its audio."""
    return {
        **NO_STORE,
        "X-Request-Id": request_id_of(request),
        "X-Luthier-Model": response.model,
        "X-Luthier-Model-Digest": response.model_digest,
        "X-Luthier-Seed": str(response.seed),
        "X-Luthier-Request-Id": quote(response.request_id),
        "X-Luthier-Reused": "1" if response.action.reused else "0",
    }
