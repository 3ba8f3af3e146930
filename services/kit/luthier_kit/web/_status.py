"""The platform's errors as HTTP says them."""

import math

import grpc

from luthier_kit.rpc import LuthierError, retry_after_s

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 422,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def http_status(error: LuthierError) -> int:
    """The HTTP status of an error; what is not in the table is the server's fault, 500."""
    return _STATUS.get(error.code, 500)


def retry_after(error: LuthierError) -> dict[str, str]:
    """The header Retry-After (RFC 9110, whole seconds, 1 or more) of an error that has a hint; nothing of others."""
    hint_s = retry_after_s(error)
    return {} if hint_s is None else {"Retry-After": str(max(1, math.ceil(hint_s)))}
