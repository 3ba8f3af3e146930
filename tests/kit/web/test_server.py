"""The server of an application: statuses of errors, and that no answer waits for the network."""

import http.client
import socket

import pytest
from starlette.responses import PlainTextResponse

from luthier_kit.rpc import (
    BY_CODE,
    Busy,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    LuthierError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    SettingsError,
    Unauthenticated,
    Unavailable,
)
from luthier_kit.web import WebServer, http_status, retry_after


@pytest.mark.parametrize(
    ("kind", "status"),
    [(InvalidRequest, 400), (Unauthenticated, 401), (PermissionDenied, 403), (NotFound, 404), (FailedPrecondition, 422),
     (QuotaExceeded, 429), (Unavailable, 503), (Busy, 503), (DeadlineExceeded, 504), (DataLoss, 500), (Internal, 500)],
)  # fmt: skip
def test_an_error_has_its_status(kind: type[LuthierError], status: int) -> None:
    assert http_status(kind("why")) == status


def test_only_the_servers_own_faults_are_5xx() -> None:
    own = {kind for kind in BY_CODE.values() if http_status(kind("why")) >= 500}

    assert {kind.__name__ for kind in own} == {
        "DataLoss", "DeadlineExceeded", "Internal", "Unavailable", "Unimplemented",
    }  # fmt: skip


def test_a_hint_is_whole_seconds_and_never_too_early() -> None:
    assert retry_after(Busy("full", retry_after_s=2.1)) == {"Retry-After": "3"}
    assert retry_after(Busy("full", retry_after_s=0)) == {"Retry-After": "1"}
    assert retry_after(NotFound("none")) == {}


def test_a_connections_writes_are_sent_at_once() -> None:
    """asyncio leaves Nagle's algorithm on where the socket was bound by others: findings/asyncio-forty-…."""
    server = WebServer(PlainTextResponse("here"), "127.0.0.1:0")
    server.start()
    try:
        client = http.client.HTTPConnection(server.address, timeout=10)
        client.request("GET", "/")
        client.getresponse().read()
        (connection,) = server._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        nodelay = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()
    finally:
        server.stop()

    assert nodelay


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=f"LUTHIER_WEB_ADDRESS {address} cannot be bound"):
            WebServer(PlainTextResponse("here"), address)
