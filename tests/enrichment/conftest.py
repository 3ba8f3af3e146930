"""Servers on loopback that speak the Last.fm API (HTTPS, as pylast insists), MusicBrainz's web service and the Spotify
Web API."""

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
        self.headers: dict[str, str] = {}  # sent with every answer
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
                for name, value in outer.headers.items():
                    self.send_header(name, value)
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


ENTER_SANDMAN, LIVE, COVER = (f"{number:08d}-0000-4000-8000-000000000000" for number in range(3))
METALLICA, APOCALYPTICA = (f"{number:08d}-0000-4000-8000-000000000000" for number in range(10, 12))


class MusicBrainz(Site):
    """A small MusicBrainz: a search that finds three recordings, and lookups of their genres and their artists'.

    Its answers have the form of the real service's of November 2026: a search gives tags, a lookup with inc=genres
    gives genres, artists are credited in parts, and a caller that does not name a contact is refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.agents: list[str] = []
        self.genres: dict[str, list[tuple[str, int]]] = {}
        self.recordings: list[dict[str, Any]] = [
            _recording(LIVE, "Enter Sandman (live)", [("Metallica", METALLICA)], 0, "1993"),
            _recording(COVER, "Enter Sandman", [("Apocalyptica", APOCALYPTICA)], 3, "1996-06-25"),
            _recording(ENTER_SANDMAN, "Enter Sandman", [("Metallica", METALLICA)], 7, "1991-07-29"),
        ]
        self.answer = self._speak

    def _speak(self, _method: str, path: str, parameters: dict[str, str], headers: Any) -> Answer:
        self.agents.append(headers["User-Agent"])
        if "@" not in headers["User-Agent"]:
            return _json(403, {"error": "You need to provide a meaningful User-Agent"})
        if parameters.get("fmt") != "json":
            return 200, "application/xml", '<metadata xmlns="http://musicbrainz.org/ns/mmd-2.0#"/>'
        if path == "/ws/2/recording":
            return _json(200, {"count": len(self.recordings), "offset": 0, "recordings": self.recordings})
        found = path.rpartition("/")[2]
        genres = [{"name": name, "count": count, "disambiguation": ""} for name, count in self.genres.get(found, [])]
        return _json(200, {"id": found} | ({"genres": genres} if parameters.get("inc") == "genres" else {}))


def _recording(id_: str, title: str, artists: list[tuple[str, str]], votes: int, date: str) -> dict[str, Any]:
    credits_ = [{"name": name, "artist": {"id": artist, "name": name}} for name, artist in artists]
    tags = [{"name": "metal", "count": votes}] if votes else []
    return {
        "id": id_, "score": 100, "title": title, "length": 331573, "artist-credit": credits_, "tags": tags,
        "first-release-date": date,
    }  # fmt: skip


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


@pytest.fixture
def musicbrainz() -> Iterator[MusicBrainz]:
    site = MusicBrainz()
    yield site
    site.close()
