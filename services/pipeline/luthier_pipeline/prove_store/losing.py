"""Connections that lose replies, as a network does: the store has done what it was asked, and nobody hears of it."""

import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3
from urllib3.exceptions import ProtocolError


class LosesReplies(urllib3.PoolManager):
    """Loses the first good reply to each request that makes an object appear: a PUT, or the end of one in parts."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._lost: set[str] = set()
        self._lock = threading.Lock()

    def urlopen(  # type: ignore[override]  # what else the library's own takes is handed on
        self, method: str, url: str, redirect: bool = True, **settings: Any
    ) -> urllib3.BaseHTTPResponse:
        """Raises ProtocolError in place of a lost reply."""
        response = super().urlopen(method, url, redirect, **settings)
        asked = urlsplit(url)
        in_parts = "uploadId" in parse_qs(asked.query)
        appears = (method == "PUT" and not in_parts) or (method == "POST" and in_parts)
        if appears and response.status < 300:
            with self._lock:
                first = asked.path not in self._lost
                self._lost.add(asked.path)
            if first:
                response.drain_conn()
                response.release_conn()
                raise ProtocolError("this reply was lost on purpose")
        return response
