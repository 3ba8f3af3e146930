"""The server of an ASGI application, in threads of the gRPC service's process."""

import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from luthier_kit.rpc import SettingsError
from luthier_kit.web._connections import BoundedProtocol

log = logging.getLogger(__name__)
BACKLOG, STOP_S = 128, 5


class WebServer:
    """A running application; `address` is where it listens."""

    def __init__(self, app: ASGIApp, address: str) -> None:
        self._socket = _bound(address)
        host, port = self._socket.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who connects is who calls: anybody can write X-Forwarded-For
            lifespan="off",
            timeout_graceful_shutdown=STOP_S,
            timeout_keep_alive=30,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True
        )

    def start(self) -> None:
        """Serves from now on; the socket already accepts."""
        self._thread.start()
        log.info("page", extra={"fields": {"address": self.address}})

    def stop(self) -> None:
        """Lets answers under way finish for STOP_S seconds."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_S + 1)
        self._socket.close()


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except (OSError, ValueError, OverflowError) as error:
        raise SettingsError(f"LUTHIER_WEB_ADDRESS {address} cannot be bound: {error}") from error
    # asyncio sets this for its own sockets alone; without it each answer waits 40 ms for the client's acknowledgement
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound
