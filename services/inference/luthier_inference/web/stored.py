"""`GET /v1/audio/{digest}.{extension}`: generated audio as it is stored, with ranges, for those who may read."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from anyio import to_thread
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_inference.audio import FORMATS
from luthier_inference.generator import KIND
from luthier_inference.web.calls import Calls, metadata_of, request_id_of
from luthier_kit.rpc import NotFound
from luthier_kit.store import Store

PREFIX: Final = "/v1/audio/"
MEDIA_TYPES: Final = {form.extension: form.media_type for form in FORMATS.values()}
IMMUTABLE: Final = "private, max-age=604800, immutable"  # of those who may read, and a week: audio expires then
_NAME: Final = re.compile(rf"([0-9a-f]{{64}})\.({'|'.join(sorted(MEDIA_TYPES))})")


def url_of(key: str) -> str:
    """Where this server gives the generated audio of a key."""
    return PREFIX + key.rpartition("/")[2]


async def stored_audio(request: Request) -> Response:
    """The route. What a caller may not read is refused as gRPC refuses it; NotFound ARTIFACT_NOT_FOUND otherwise."""
    calls: Calls = request.app.state.calls
    await calls.permit_reading(metadata_of(request))
    name = request.path_params["name"]
    parts = _NAME.fullmatch(name)
    if not parts:
        raise NotFound("generated audio is named <sha256>.<extension>", reason="ARTIFACT_NOT_FOUND")
    headers = {"ETag": f'"{parts[1]}"', "Cache-Control": IMMUTABLE, "X-Request-Id": request_id_of(request)}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    ref = ArtifactRef(key=f"{KIND}/{name}", sha256=parts[1])
    store: Store = request.app.state.store
    folder = TemporaryDirectory(dir=request.app.state.scratch, prefix="sent-")
    try:
        path = await to_thread.run_sync(lambda: store.blobs.fetch(ref, Path(folder.name), read_only=True))
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        path, media_type=MEDIA_TYPES[parts[2]], headers=headers, background=BackgroundTask(folder.cleanup)
    )
