"""Connections of a server: bounded in number, and closed when a request or the reading of an answer makes no progress.

uvicorn has neither bound: a client that sends half of a request's head, or reads nothing of its answer, is held for
ever.
"""

import asyncio
from collections import Counter
from enum import IntEnum, auto
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 256
HEAD_S: Final = 10.0  # from the first byte of a request, or the connection, to the end of its headers
BODY_S: Final = 30.0
UNREAD_S: Final = 60.0  # in which a client that is sent something reads some of it


class Use(IntEnum):
    """What a connection is used for; the earlier in the list, the sooner it gives way."""

    IDLE = auto()  # answered, and kept for a next request
    OPENING = auto()  # its request is not there whole
    UNREAD = auto()  # its client does not read as fast as it is sent to
    NEW = auto()  # has just come
    WORKING = auto()  # its request is being answered


class BoundedProtocol(H11Protocol):
    """One connection. At the bound, one of the address that has most of them gives way: the one of the least use, and
    of these the one that has been so for the longest time. Behind a proxy all have one address."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # pause_writing says that anything waits for its reader
        self.address = self.client[0] if self.client else ""
        self.gave_way = False
        self._since = 0.0  # of its use, the loop's clock
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._opening()
        _make_room(self)

    def use(self) -> Use:
        """What it is used for now."""
        if self._unread_timer is not None:
            return Use.UNREAD
        if self._head_timer is not None:
            return Use.OPENING
        if self.cycle is None or self.cycle.response_complete:
            return Use.IDLE
        return Use.OPENING if self.cycle.more_body else Use.WORKING

    def data_received(self, data: bytes) -> None:
        begun, between = self.cycle, self.cycle is None or self.cycle.response_complete
        if between and self._head_timer is None:
            self._opening()
        super().data_received(data)
        if self.cycle is not begun:  # its headers are there
            self._opened()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._since = self.loop.time()
        self._unread(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened()
        self._read()
        super().connection_lost(exc)

    def give_way(self) -> None:
        """Ends it. It is still among the server's connections for a moment."""
        self.gave_way = True
        self.transport.abort()

    def gives_way_before(self, newest: "BoundedProtocol") -> tuple[Use, float]:
        """Where it stands in the order of giving way."""
        use = Use.NEW if self is newest else self.use()
        return use, -self._since if use is Use.WORKING else self._since

    def _opening(self) -> None:
        self._since = self.loop.time()
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _opened(self) -> None:
        self._since = self.loop.time()
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _unread(self, waiting_bytes: int) -> None:
        """Waits UNREAD_S for some of these bytes to be read, and so on until all are."""

        def look() -> None:
            if (left := self.transport.get_write_buffer_size()) < waiting_bytes:
                self._unread(left)
            else:
                self.transport.abort()

        self._unread_timer = self.loop.call_later(UNREAD_S, look)

    def _read(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


def _make_room(newest: BoundedProtocol) -> None:
    """Beyond the bound one connection gives way, which may be the newest."""
    held = [each for each in newest.connections if isinstance(each, BoundedProtocol) and not each.gave_way]
    if len(held) <= MAX_CONNECTIONS:
        return
    by_address = Counter(each.address for each in held)
    most = max(by_address.values())
    candidates = [each for each in held if by_address[each.address] == most]
    min(candidates, key=lambda each: each.gives_way_before(newest)).give_way()


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
