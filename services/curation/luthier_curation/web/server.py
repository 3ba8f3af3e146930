"""The page as an ASGI application, and its server in threads of the gRPC service's process."""

import logging
import socket
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from luthier_curation.curation import Curation
from luthier_curation.listening import Listening
from luthier_curation.settings import CurationSettings
from luthier_curation.web import api, errors, listening, media, pages
from luthier_curation.web.audio import AudioCache
from luthier_curation.web.connections import BoundedProtocol
from luthier_curation.web.safety import Safety
from luthier_kit.rpc import SettingsError

log = logging.getLogger(__name__)
BACKLOG, STOP_S = 128, 5
STATIC = Path(__file__).parent / "static"


def create_app(curation: Curation, settings: CurationSettings) -> FastAPI:
    """The application over this curation. Copies of audio live below the settings' scratch folder."""
    app = FastAPI(title="Luthier curation", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Safety, origins=settings.web_origins)
    errors.install(app)
    cache = AudioCache(curation.store, settings.scratch / "luthier-audio", settings.audio_cache_bytes)
    app.include_router(pages.routes(curation))
    app.include_router(api.routes(curation))
    app.include_router(media.routes(curation, cache, settings.scratch))
    tests = Listening(curation.repository, curation.store, settings.scratch)
    app.include_router(listening.routes(tests, cache))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


class WebServer:
    """A running page; `address` is where it listens."""

    def __init__(self, app: FastAPI, address: str) -> None:
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
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except (OSError, ValueError, OverflowError) as error:
        raise SettingsError(f"LUTHIER_WEB_ADDRESS {address} cannot be bound: {error}") from error
