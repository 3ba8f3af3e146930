"""What the page refuses before it looks at a request, and the headers that every answer carries.

* A Host that is a name we were not given: DNS rebinding would make another site's page same-origin with this one.
* A change (POST) without the page's own header, or from another origin: another site's page cannot send that header
  without a preflight, which is never granted.
* A body without a length, or beyond MAX_BODY_BYTES, or that does not come in time.
* A path with a NUL, which no name that we gave has.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier_curation.web.connections import in_time
from luthier_curation.web.errors import answer

MAX_BODY_BYTES = 1 << 20
PAGE_HEADER = "x-luthier-page"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Safety:
    """ASGI middleware; `origins` are those, besides the request's own host, under which a proxy shows the page."""

    def __init__(self, app: ASGIApp, origins: Iterable[str] = ()) -> None:
        self.app = app
        self.origins = {origin.rstrip("/").lower() for origin in origins}
        self.hosts = {urlsplit(origin).hostname for origin in self.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self.refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal is None:
            await self.app(scope, in_time(receive), with_headers)
        else:
            status, reason, text = refusal
            await answer(Request(scope), status, reason, text)(scope, receive, with_headers)

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str, str] | None:
        """Status, reason and message for what is refused; None for what may pass."""
        host = headers.get("host", "").lower()
        if not self._known(host):
            text = f"This page is not known as {host[:100]!r}; add its origin to LUTHIER_WEB_ORIGINS."
            return 400, "HOST_NOT_KNOWN", text
        if "\x00" in path:
            return 404, "NOT_FOUND", "There is nothing of this name."
        if method in ("GET", "HEAD"):
            return None
        if headers.get(PAGE_HEADER) != "1" or not self._same_origin(headers.get("origin"), host):
            return 403, "CROSS_SITE", "Changes are only accepted from this page itself."
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return 413, "BODY_TOO_LARGE", f"The body must state its length, at most {MAX_BODY_BYTES} bytes."
        return None

    def _known(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost" or name in self.hosts:
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _same_origin(self, origin: str | None, host: str) -> bool:
        """A client that is no browser sends no Origin; it is nobody's victim."""
        if origin is None:
            return True
        return origin.lower() in self.origins or origin.lower() in (f"http://{host}", f"https://{host}")
