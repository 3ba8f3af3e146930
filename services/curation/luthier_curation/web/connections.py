"""Connections of the page: bounded in number, and closed when a request does not come whole in time.

uvicorn has neither bound: a client that sends half of a request's head is held for ever.
"""

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 256
HEAD_S: Final = 10.0  # from the first byte of a request, or the connection, to the end of its headers
BODY_S: Final = 30.0


class BoundedProtocol(H11Protocol):
    """One connection. At the bound, the one that has waited longest for the rest of a request gives way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._opening()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = (each for each in self.connections if isinstance(each, BoundedProtocol) and each._timer)
            longest = min(waiting, key=lambda each: each._timer.when() if each._timer else 0.0)  # there is this one
            longest._opened()  # it is chosen once: its end comes later
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        begun, between = self.cycle, self.cycle is None or self.cycle.response_complete
        if between and self._timer is None:
            self._opening()
        super().data_received(data)
        if self.cycle is not begun:  # its headers are there
            self._opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened()
        super().connection_lost(exc)

    def _opening(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _opened(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def in_time(receive: Receive) -> Receive:
    """The messages of a request; 408 when its body is not there BODY_S after it began."""
    whole = False
    until = asyncio.get_running_loop().time() + BODY_S

    async def bounded() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"The body did not come within {BODY_S:g} s.") from None
        whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return bounded
