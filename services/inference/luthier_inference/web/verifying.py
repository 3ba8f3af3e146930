"""`POST /v1/audio/verify`: what a file says of what made it, and what is known of it.

The file is written below scratch, looked into by the service's own gRPC server, and gone with the answer. Nothing that
it names is asked for.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from luthier_inference.detecting import Uploads
from luthier_inference.web.calls import Calls, attended, metadata_of, request_id_of
from luthier_inference.web.generating import NO_STORE, as_dict
from luthier_kit.rpc import InvalidRequest


async def verify(request: Request) -> Response:
    """The route. InvalidRequest UPLOAD_EMPTY where there is nothing."""
    calls: Calls = request.app.state.calls
    metadata = metadata_of(request)
    await calls.permit_reading(metadata)  # before a byte of it is written
    uploads: Uploads = request.app.state.uploads
    with uploads.room() as upload:
        with upload.path.open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
            size_bytes = file.tell()
        if not size_bytes:
            raise InvalidRequest(reason="UPLOAD_EMPTY", violations=[("body", "must be a file, got nothing")])
        upload.named_by_its_kind()
        found = await attended(request, calls.detect(upload.name, metadata))
    return JSONResponse(as_dict(found), headers={**NO_STORE, "X-Request-Id": request_id_of(request)})
