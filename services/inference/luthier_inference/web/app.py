"""The application: its routes, and the front that serves it beside gRPC."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.detecting import MAX_UPLOAD_BYTES, Uploads
from luthier_inference.web import errors, openapi
from luthier_inference.web.body import MAX_BODY_BYTES
from luthier_inference.web.calls import Calls, metadata_of, request_id_of
from luthier_inference.web.generating import as_dict, generate
from luthier_inference.web.stored import stored_audio
from luthier_inference.web.verifying import verify
from luthier_kit.store import Store
from luthier_kit.web import Safety, WebServer

STATIC: Final = Path(__file__).parent / "static"
VERIFY: Final = "/v1/audio/verify"
REVALIDATED: Final = {"Cache-Control": "no-cache"}  # a new version of the service has another page


class _Static(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(REVALIDATED)
        return response


async def page(_: Request) -> Response:
    """The page to generate with."""
    return FileResponse(STATIC / "index.html", headers=REVALIDATED)


async def verify_page(_: Request) -> Response:
    """The page that a file is dropped on."""
    return FileResponse(STATIC / "verify.html", headers=REVALIDATED)


async def models(request: Request) -> Response:
    """The registered versions in OpenAI's form, each with all that `ListModels` says of it."""
    calls: Calls = request.app.state.calls
    listed = await calls.models(metadata_of(request))
    data = [model_dict(model) for model in listed.models]
    told = {"object": "list", "data": data, "default_model": listed.default_model}
    return JSONResponse(told, headers={"Cache-Control": "no-store", "X-Request-Id": request_id_of(request)})


def model_dict(model: pb.Model) -> dict[str, Any]:
    """A version: `id` is what requests name."""
    return {
        "id": f"{model.name}@{model.version}",
        "object": "model",
        "created": model.created_at.seconds,
        "owned_by": model.created_by,
        **as_dict(model),
    }


async def health(request: Request) -> Response:
    """200 while the service is SERVING, else 503."""
    calls: Calls = request.app.state.calls
    return Response(status_code=200 if await calls.serving() else 503, headers={"Cache-Control": "no-store"})


def create_app(store: Store, scratch: Path, origins: Iterable[str], uploads: Uploads) -> Starlette:
    """The application; its `state.calls` is set before it serves. Files that are sent lie below `scratch` meanwhile."""
    zipped = [Middleware(GZipMiddleware, minimum_size=1000)]
    app = Starlette(
        routes=[
            Route("/v1/audio/generate", generate, methods=["POST"]),
            Route(VERIFY, verify, methods=["POST"]),
            Route("/v1/audio/{name}", stored_audio, methods=["GET"]),
            Route("/v1/models", models, methods=["GET"]),
            Route("/health", health, methods=["GET"]),
            Route("/", page, methods=["GET"]),
            Route("/verify", verify_page, methods=["GET"]),
            Mount("/static", _Static(directory=STATIC), middleware=zipped),
            Route("/openapi.json", openapi.as_json, methods=["GET"], middleware=zipped),
            Route("/docs", openapi.as_page, methods=["GET"], middleware=zipped),
        ],
        middleware=[
            Middleware(
                Safety,
                refuse=errors.answer,
                origins=origins,
                max_body_bytes=MAX_BODY_BYTES,
                from_pages=False,
                uploads={VERIFY: MAX_UPLOAD_BYTES},
            )
        ],
        exception_handlers=errors.HANDLERS,
    )
    app.state.store, app.state.scratch, app.state.uploads = store, scratch, uploads
    return app


class HttpFront:
    """HTTP at `address`, answered by calls of the gRPC server. SettingsError when it cannot be bound."""

    def __init__(self, store: Store, scratch: Path, address: str, origins: Iterable[str], uploads: Uploads) -> None:
        self._app = create_app(store, scratch, origins, uploads)
        self._server = WebServer(self._app, address)
        self.address = self._server.address

    def start(self, target: str) -> None:
        """Serves; calls go to `target`."""
        self._calls = self._app.state.calls = Calls(target)
        self._server.start()

    def stop(self) -> None:
        """Lets the last answers be read, then ends."""
        self._server.stop()
        self._calls.close()
