"""Connections of the page: how many there are, who gives way, and what is given up."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from luthier_kit.web import WebServer
from luthier_kit.web import _connections as connections

SIZE = 16 << 20
"""of an answer: more than the kernel keeps for a reader that does not read."""
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
ANSWERED = b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
WITHOUT_BODY = (
    b"POST /api/undo HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Luthier-Page: 1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n{"
)


@pytest.fixture
def big_url() -> Iterator[str]:
    """Address of a page whose answers are large: `/whole` in one piece, `/pieces` bit by bit."""
    app, whole = FastAPI(), bytes(SIZE)
    app.add_api_route("/", lambda: PlainTextResponse("here"))
    app.add_api_route("/whole", lambda: Response(whole))
    app.add_api_route("/pieces", lambda: StreamingResponse(bytes(1 << 16) for _ in range(SIZE >> 16)))
    server = WebServer(app, "127.0.0.1:0")
    server.start()
    yield f"http://{server.address}"
    server.stop()


def connect(page_url: str, begun: bytes, address: str = HERE, keeps_bytes: int = 0) -> socket.socket:
    """A connection from an address, on which something was sent; its kernel keeps few bytes that were not read."""
    host, _, port = page_url.removeprefix("http://").partition(":")
    connection = socket.socket()
    if keeps_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, keeps_bytes)
    connection.bind((address, 0))
    connection.settimeout(5)
    connection.connect((host, int(port)))
    connection.sendall(begun)
    return connection


def visit(page_url: str, address: str = HERE) -> int:
    """The status that a new visitor gets."""
    host, _, port = page_url.removeprefix("http://").partition(":")
    visitor = http.client.HTTPConnection(host, int(port), timeout=20, source_address=(address, 0))
    visitor.request("GET", "/")
    status = visitor.getresponse().status
    visitor.close()
    return status


def received(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = connection.recv(1 << 16)
        assert piece, data
        data += piece
    return data


def closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_a_request_that_does_not_come_whole_is_given_up(
    page_url: str, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    with connect(page_url, begun) as connection:
        for _ in range(8):  # a byte now and then buys no time
            time.sleep(0.1)
            with suppress(OSError):
                connection.sendall(b"x")
        assert closed_within(connection, 2)


def test_a_second_request_on_a_connection_has_its_own_time(page_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    with connect(page_url, ANSWERED) as connection:
        assert received(connection, b"}").startswith(b"HTTP/1.1 404")
        time.sleep(0.8)
        connection.sendall(ANSWERED)
        assert received(connection, b"}").startswith(b"HTTP/1.1 404")
        connection.sendall(b"GET /")
        assert closed_within(connection, 2)


def test_a_body_that_does_not_come_is_given_up(page_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_S", 0.5)
    with connect(page_url, WITHOUT_BODY) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408")


def test_six_hundred_half_requests_do_not_keep_others_out(page_url: str) -> None:
    with ExitStack() as held:
        half = b"GET / HTTP/1.1\r\nHost: 127"
        half_open = [held.enter_context(connect(page_url, half)) for _ in range(600)]
        assert visit(page_url) == 200
        assert sum(not closed_within(connection, 0.002) for connection in half_open) <= connections.MAX_CONNECTIONS


def test_connections_that_are_kept_for_a_next_request_give_way(page_url: str) -> None:
    with ExitStack() as held:
        for _ in range(connections.MAX_CONNECTIONS):
            received(held.enter_context(connect(page_url, ANSWERED)), b"}")
        assert visit(page_url) == 200


def test_requests_without_their_body_give_way(page_url: str) -> None:
    with ExitStack() as held:
        for _ in range(connections.MAX_CONNECTIONS):
            held.enter_context(connect(page_url, WITHOUT_BODY))
        time.sleep(0.2)
        assert visit(page_url) == 200


@pytest.mark.parametrize("address", [ELSEWHERE, HERE])
@pytest.mark.parametrize("path", ["/whole", "/pieces"])
def test_downloads_that_nobody_reads_give_way(
    big_url: str, monkeypatch: pytest.MonkeyPatch, path: str, address: str
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 16)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with ExitStack() as held:
        for _ in range(16):
            held.enter_context(connect(big_url, request, keeps_bytes=4096)).recv(1)
        time.sleep(0.3)
        for _ in range(3):
            assert visit(big_url, address) == 200


def test_who_has_one_connection_keeps_it_while_another_takes_all(page_url: str) -> None:
    with ExitStack() as held, connect(page_url, ANSWERED, ELSEWHERE) as own:
        received(own, b"}")
        for _ in range(connections.MAX_CONNECTIONS + 50):
            received(held.enter_context(connect(page_url, ANSWERED)), b"}")
        own.sendall(ANSWERED)
        assert received(own, b"}").startswith(b"HTTP/1.1 404")


def read_all(connection: socket.socket, pause_s: float = 0.0) -> int:
    """The number of bytes that come; after each megabyte there is a pause."""
    total, paused_at = 0, 0
    with suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            total += len(piece)
            if total - paused_at > 1 << 20:
                paused_at = total
                time.sleep(pause_s)
    return total


@pytest.mark.parametrize("path", ["/whole", "/pieces"])
@pytest.mark.parametrize("header", ["", "Connection: close\r\n"])
def test_an_answer_that_nobody_reads_is_given_up(
    big_url: str, monkeypatch: pytest.MonkeyPatch, path: str, header: str
) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 0.3)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n".encode()
    with connect(big_url, request, keeps_bytes=4096) as connection:
        time.sleep(1.5)
        assert read_all(connection) < SIZE


@pytest.mark.parametrize("path", ["/whole", "/pieces"])
def test_who_reads_slowly_gets_all(big_url: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 0.5)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    with connect(big_url, request, keeps_bytes=1 << 16) as connection:
        assert read_all(connection, pause_s=0.15) > SIZE
