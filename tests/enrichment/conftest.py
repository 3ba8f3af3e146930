"""Servers on loopback that speak the Last.fm API (HTTPS, as pylast insists) and the Spotify Web API."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pylast
import pytest
import trustme

Answer = tuple[int, str, str]  # status, content type, body


class Site:
    """`answer(method, path, parameters, headers)` decides; `calls` keeps (path, parameters) of every request."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str, str, dict[str, str], Any], Answer] = lambda *_: (500, "text/plain", "")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._reply("POST", self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

            def do_GET(self) -> None:
                self._reply("GET", urlsplit(self.path).query)

            def _reply(self, method: str, form: str) -> None:
                parameters = {key: values[0] for key, values in parse_qs(form).items()}
                path = urlsplit(self.path).path
                outer.calls.append((path, parameters))
                status, kind, body = outer.answer(method, path, parameters, self.headers)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if context:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.host = f"127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def lfm(inner: str, status: str = "ok") -> Answer:
    return 200, "text/xml", f'<?xml version="1.0" encoding="UTF-8"?><lfm status="{status}">{inner}</lfm>'


def lfm_error(code: int, text: str = "an error") -> Answer:
    return lfm(f'<error code="{code}">{escape(text)}</error>', "failed")


class LastFm(Site):
    """A small Last.fm: `tracks` maps (artist, title) to (tag, count) pairs, `artists` artists to theirs."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context)
        self.tracks: dict[tuple[str, str], list[tuple[str, int]]] = {}
        self.artists: dict[str, list[tuple[str, int]]] = {}
        self.answer = self._speak

    def error(self, code: int) -> Answer:
        return lfm_error(code)

    def _speak(self, _method: str, _path: str, parameters: dict[str, str], _headers: Any) -> Answer:
        if parameters.get("api_key") != "good-key":
            return lfm_error(10, "Invalid API key - You must be granted a valid key by last.fm")
        method = parameters["method"]
        if method == "track.search":
            found = "".join(
                f"<track><name>{escape(title)}</name><artist>{escape(artist)}</artist><listeners>1</listeners></track>"
                for artist, title in self.tracks
            )
            return lfm(f'<results xmlns:opensearch="x"><trackmatches>{found}</trackmatches></results>')
        if method == "track.gettoptags" or method == "track.getTopTags":
            return lfm(_tags(self.tracks.get((parameters["artist"], parameters["track"]), [])))
        if method == "artist.getTopTags":
            return lfm(_tags(self.artists.get(parameters["artist"], [])))
        return lfm_error(3, "Invalid Method")


def _tags(tags: list[tuple[str, int]]) -> str:
    inner = "".join(f"<tag><name>{escape(name)}</name><count>{count}</count></tag>" for name, count in tags)
    return f"<toptags>{inner}</toptags>"


class Spotify(Site):
    """A small Spotify: token, search, artist."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[dict[str, Any]] = []
        self.genres: list[str] = []
        self.answer = self._speak

    def _speak(self, _method: str, path: str, parameters: dict[str, str], headers: Any) -> Answer:
        if path == "/api/token":
            if headers["Authorization"] != "Basic aWQ6c2VjcmV0":  # id:secret
                return 400, "application/json", '{"error": "invalid_client"}'
            return _json(200, {"access_token": "token-1", "token_type": "Bearer", "expires_in": 3600})
        if headers["Authorization"] != "Bearer token-1":
            return _json(401, {"error": {"status": 401, "message": "No token provided"}})
        if path == "/v1/search":
            return _json(200, {"tracks": {"items": self.items}})
        return _json(200, {"id": path.rpartition("/")[2], "genres": self.genres})


def _json(status: int, document: Any) -> Answer:
    return status, "application/json", json.dumps(document)


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    """A server's TLS context whose authority pylast trusts from now on."""
    authority = trustme.CA()
    authority.configure_trust(pylast.SSL_CONTEXT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def lastfm(tls: ssl.SSLContext) -> Iterator[LastFm]:
    site = LastFm(tls)
    yield site
    site.close()


@pytest.fixture
def spotify() -> Iterator[Spotify]:
    site = Spotify()
    yield site
    site.close()
