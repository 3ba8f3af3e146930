"""Errors as JSON of the form that vLLM-Omni and OpenAI's clients read, with what Luthier's errors say beside."""

import logging
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from luthier_inference.web.calls import request_id_of
from luthier_kit.rpc import InvalidRequest, LuthierError, Unauthenticated, retry_after_s
from luthier_kit.web import http_status, retry_after

log = logging.getLogger(__name__)
TYPES: Final = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}
"""The names of OpenAI's client for statuses."""
PARAMS: Final = {"MODEL_NOT_FOUND": "model"}  # what vLLM-Omni names of an error without violations
REASONS: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 408: "BODY_LATE"}


def error_body(status: int, reason: str, message: str, error: LuthierError | None = None) -> dict[str, Any]:
    """`message`, `type`, `param` (the first field that is wrong) and `code` (the status) as vLLM-Omni's; `reason` as in
    gRPC's ErrorInfo, `violations` (every field and the bound that it breaks), `retry_after_s`, `metadata`."""
    violations = error.violations if isinstance(error, InvalidRequest) else ()
    told: dict[str, Any] = {
        "message": message,
        "type": TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError"),
        "param": violations[0][0] if violations else PARAMS.get(reason),
        "code": status,
        "reason": reason,
        "violations": [{"field": field, "description": bound} for field, bound in violations],
    }
    if error and (hint_s := retry_after_s(error)) is not None:
        told["retry_after_s"] = hint_s
    if error and error.metadata:
        told["metadata"] = dict(error.metadata)
    return {"error": told}


def body_of(error: LuthierError) -> dict[str, Any]:
    """The body of an error that came from gRPC."""
    return error_body(http_status(error), error.reason, error.public or str(error), error)


def answer(request: Request, status: int, reason: str, message: str) -> Response:
    """The answer to a request that is refused before gRPC hears of it."""
    return JSONResponse(error_body(status, reason, message), status, {"X-Request-Id": request_id_of(request)})


async def expected(request: Request, error: Exception) -> Response:
    """A refusal of the gRPC server, or of a body."""
    assert isinstance(error, LuthierError)  # it is the handler of these
    headers = {"X-Request-Id": request_id_of(request), **retry_after(error)}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body_of(error), http_status(error), headers)


async def refused(request: Request, error: Exception) -> Response:
    """No such path or method, or a body that came too late."""
    assert isinstance(error, HTTPException)
    response = answer(request, error.status_code, REASONS.get(error.status_code, "HTTP_ERROR"), str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def bug(request: Request, error: Exception) -> Response:
    """Anything else: the trace is in the log."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(request, 500, "INTERNAL", "internal error")


HANDLERS: Final = {LuthierError: expected, HTTPException: refused, Exception: bug}
