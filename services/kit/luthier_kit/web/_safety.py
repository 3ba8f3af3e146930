"""What a server refuses before its application looks at a request, and the headers that every answer carries.

* A Host that is a name we were not given: DNS rebinding would make another site's page same-origin with this one.
  Names that the internet's DNS has not, and so nobody can rebind, are taken: `localhost`, those of one word
  (`luthier-inference`) and those below `svc`, `local` and `internal`.
* A change (POST) that another site's page could send: from another origin, without the page's own header or, where
  programs call, of another media type than JSON. Another site's page cannot send either without a preflight, which is
  never granted.
* A body without a length, or beyond a bound, or that does not come in time.
* A path with a NUL, which no name that we gave has.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier_kit.web._connections import in_time

PAGE_HEADER = "x-luthier-page"
JSON = "application/json"
BYTES = "application/octet-stream"
PRIVATE_NAMES = ("svc", "local", "internal", "localhost")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


Refuse = Callable[[Request, int, str, str], Response]
"""The answer to a request that is refused: its status, reason and message."""


class Safety:
    """ASGI middleware; `origins` are those, besides the request's own host, under which a proxy shows the page. Bodies
    have at most `max_body_bytes`. `from_pages`: only pages change something, with their header; else programs do, too,
    with JSON. `uploads`: paths to which programs send files, as `audio/…` or BYTES, and the most bytes of each; another
    site's page cannot send these types without a preflight either."""

    def __init__(
        self, app: ASGIApp, refuse: Refuse, *, origins: Iterable[str] = (), max_body_bytes: int, from_pages: bool,
        uploads: Mapping[str, int] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.app, self._uploads = app, uploads
        self._refuse, self._max_body_bytes, self._from_pages = refuse, max_body_bytes, from_pages
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
            await self._refuse(Request(scope), status, reason, text)(scope, receive, with_headers)

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str, str] | None:
        """Status, reason and message for what is refused; None for what may pass."""
        host = headers.get("host", "").lower()
        if not self._known(host):
            text = f"This page is not known as {host[:100]!r}; add its origin to LUTHIER_WEB_ORIGINS."
            return 400, "HOST_NOT_KNOWN", text
        if "\x00" in path:
            return 404, "NOT_FOUND", "There is nothing of this name."
        return None if method in ("GET", "HEAD") else self._refused_change(headers, host, self._uploads.get(path))

    def _refused_change(self, headers: Headers, host: str, upload_bytes: int | None) -> tuple[int, str, str] | None:
        if not self._same_origin(headers.get("origin"), host):
            return 403, "CROSS_SITE", "Changes are only accepted from this page itself."
        if self._from_pages and headers.get(PAGE_HEADER) != "1":
            return 403, "CROSS_SITE", "Changes are only accepted from this page itself."
        media_type, bound = headers.get("content-type", "").partition(";")[0].strip().lower(), self._max_body_bytes
        if upload_bytes is not None:
            bound = upload_bytes
            if media_type != BYTES and not media_type.startswith("audio/"):
                text = f"The body must be a file and say so: Content-Type: audio/… or {BYTES}."
                return 415, "NOT_A_FILE", text
        elif not self._from_pages and media_type != JSON:
            return 415, "NOT_JSON", f"The body must be JSON and say so: Content-Type: {JSON}."
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > bound:
            return 413, "BODY_TOO_LARGE", f"The body must state its length, at most {bound} bytes."
        return None

    def _known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        except ValueError:  # half of an IPv6 address
            return False
        words = name.split(".")
        if name in self.hosts or (name and (len(words) == 1 or words[-1] in PRIVATE_NAMES)):
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
