"""Page tokens: opaque to callers, checked by servers, the same in every service."""

import base64
import hashlib
from collections.abc import Iterable
from typing import Final, TypeVar

from google.protobuf.message import Message

from luthier_kit.rpc._errors import InvalidRequest

M = TypeVar("M", bound=Message)
MAX_PAGE_BYTES: Final = 3 << 20  # of the items of a page: with what else a response says below gRPC's 4 MiB
_DIGEST_BYTES = 12
_NOT_OF_QUERY = ("page_token", "page_size")


def page_token(request: Message, position: str) -> str:
    """The token that continues the list asked for by `request` behind `position` (the last item's sort key)."""
    data = position.encode()
    return base64.urlsafe_b64encode(_digest(request, data) + data).decode().rstrip("=")


def page_position(request: Message) -> str:
    """The position in the request's own `page_token`, "" for the first page.

    Raises InvalidRequest PAGE_TOKEN_INVALID unless the token was made for the same list: same method, same filters.
    """
    token: str = request.page_token  # type: ignore[attr-defined]
    if not token:
        return ""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, data = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        if data and digest == _digest(request, data):
            return data.decode()
    except ValueError:  # not base64, or not text
        pass
    bound = "must be the next_page_token of an earlier response to the same request"
    raise InvalidRequest(reason="PAGE_TOKEN_INVALID", violations=[("page_token", bound)])


def fit_page(request: Message, items: Iterable[tuple[str, M]], next_token: str) -> tuple[list[M], str]:
    """As many of a page's items, in order, as one response can hold, and the token that continues behind them.

    `items` are positions and messages, `next_token` continues behind all of them. A page holds one item at least.
    """
    page, room, last = list[M](), MAX_PAGE_BYTES, ""
    for position, item in items:
        room -= item.ByteSize()
        if room < 0 and page:
            return page, page_token(request, last)
        page.append(item)
        last = position
    return page, next_token


def _digest(request: Message, data: bytes) -> bytes:
    query = type(request)()
    query.CopyFrom(request)
    for field in _NOT_OF_QUERY:
        query.ClearField(field)
    name = request.DESCRIPTOR.full_name.encode()
    made_for = hashlib.sha256(b"\0".join((name, query.SerializeToString(deterministic=True), data)))
    return made_for.digest()[:_DIGEST_BYTES]
