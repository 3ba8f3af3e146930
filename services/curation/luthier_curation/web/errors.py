"""The platform's errors as HTTP: JSON for the page's own calls, a readable page for a person's navigation."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from luthier_curation.web.templating import render
from luthier_kit.rpc import LuthierError
from luthier_kit.web import http_status, retry_after

log = logging.getLogger(__name__)
HTTP_REASONS = {
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "BODY_LATE",
    411: "LENGTH_REQUIRED",
}


def answer(request: Request, status: int, reason: str, message: str, **more: object) -> Response:
    """The error in the form that the caller reads."""
    if "text/html" in request.headers.get("accept", ""):
        return render("error.html", status_code=status, status=status, message=message, reason=reason)
    return JSONResponse({"reason": reason, "message": message, **more}, status_code=status)


def install(app: FastAPI) -> None:
    """Every error that can leave a handler gets an answer; only bugs leave a trace, in the log."""

    @app.exception_handler(LuthierError)
    def expected(request: Request, error: LuthierError) -> Response:
        violations = [list(pair) for pair in getattr(error, "violations", ())]
        response = answer(request, http_status(error), error.reason, error.public or str(error), violations=violations)
        response.headers.update(retry_after(error))
        return response

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        places = [".".join(str(part) for part in fault["loc"][1:]) or "body" for fault in error.errors()]
        violations = [[place, fault["msg"]] for place, fault in zip(places, error.errors(), strict=True)]
        message = "; ".join(f"{place}: {bound}" for place, bound in violations)
        return answer(request, 400, "INVALID_REQUEST", message, violations=violations)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        reason = HTTP_REASONS.get(error.status_code, "HTTP_ERROR")
        return answer(request, error.status_code, reason, str(error.detail))

    @app.exception_handler(Exception)
    def bug(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(request, 500, "INTERNAL", "Something went wrong here. The log of the service says what.")
