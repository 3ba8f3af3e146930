"""What a call may raise: one class for each status, with the reason, the fields and the hint that the server sent.

* LuthierError
  - InvalidRequest       INVALID_ARGUMENT     a field is beyond its bound: `violations` names each
  - NotFound             NOT_FOUND            no such model or artifact
  - FailedPrecondition   FAILED_PRECONDITION  it exists and does not fit
  - Aborted              ABORTED              somebody else was first
  - DataLoss             DATA_LOSS            stored bytes, or those that arrived, are damaged
  - PermissionDenied     PERMISSION_DENIED    this caller may not
  - Unauthenticated      UNAUTHENTICATED      no token, or a wrong one
  - Unavailable          UNAVAILABLE          full, stopping, or not reached; `retry_after_s`
  - ResourceExhausted    RESOURCE_EXHAUSTED   a quota is spent; `retry_after_s` is when it is renewed
  - Cancelled            CANCELLED            given up
  - DeadlineExceeded     DEADLINE_EXCEEDED    the time was over
  - Unimplemented        UNIMPLEMENTED        the server is older than this method
  - Internal             INTERNAL, UNKNOWN    a fault of the server
"""

from dataclasses import dataclass
from typing import Any

import grpc

from luthier.wire.v1 import wire_pb2 as wire

DETAILS_KEY = "grpc-status-details-bin"
RETRIED = "CALLER_IN_FLIGHT"
"""Reason of a ResourceExhausted that ends when another call of this caller does."""


@dataclass(frozen=True)
class Violation:
    """A field, and the bound that it breaks."""

    field: str
    description: str


class LuthierError(Exception):
    """A call that failed.

    `reason` is stable, for programs ("" where the server sent none), `metadata` belongs to it. `retry_after_s`: the
    server's hint, seconds; None where there is none. `request_id` finds the call in the server's log.
    """

    code = grpc.StatusCode.UNKNOWN

    def __init__(
        self, message: str, *, reason: str = "", metadata: dict[str, str] | None = None,
        retry_after_s: float | None = None, violations: tuple[Violation, ...] = (), request_id: str = "",
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.reason, self.metadata, self.request_id = reason, metadata or {}, request_id
        self.retry_after_s, self.violations = retry_after_s, violations

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may be answered soon."""
        return isinstance(self, Unavailable) or self.reason == RETRIED


class InvalidRequest(LuthierError):
    """The request must be changed."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(LuthierError):
    """There is no such model or artifact."""

    code = grpc.StatusCode.NOT_FOUND


class FailedPrecondition(LuthierError):
    """It exists and does not fit."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(LuthierError):
    """Somebody else was first."""

    code = grpc.StatusCode.ABORTED


class DataLoss(LuthierError):
    """Bytes are damaged."""

    code = grpc.StatusCode.DATA_LOSS


class PermissionDenied(LuthierError):
    """This caller may not."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(LuthierError):
    """No credentials, or wrong ones."""

    code = grpc.StatusCode.UNAUTHENTICATED


class Unavailable(LuthierError):
    """Not now: full, stopping, or not reached."""

    code = grpc.StatusCode.UNAVAILABLE


class ResourceExhausted(LuthierError):
    """A quota is spent (QUOTA_SPENT), a request is larger than one (QUOTA_TOO_SMALL), or a message is too large."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Cancelled(LuthierError):
    """Given up."""

    code = grpc.StatusCode.CANCELLED


class DeadlineExceeded(LuthierError):
    """The time was over."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unimplemented(LuthierError):
    """The server does not have this method."""

    code = grpc.StatusCode.UNIMPLEMENTED


class Internal(LuthierError):
    """A fault of the server."""

    code = grpc.StatusCode.INTERNAL


_BY_CODE: dict[grpc.StatusCode, type[LuthierError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest, NotFound, FailedPrecondition, Aborted, DataLoss, PermissionDenied, Unauthenticated,
        Unavailable, ResourceExhausted, Cancelled, DeadlineExceeded, Unimplemented, Internal,
    )
}  # fmt: skip


def error_of(call: Any, request_id: str) -> LuthierError:
    """The error of a call that failed: a `grpc.RpcError` or a `grpc.aio.AioRpcError`."""
    status = wire.Status()
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY:
            status.ParseFromString(value)
    info, retry, bad = wire.ErrorInfo(), wire.RetryInfo(), wire.BadRequest()
    hint_s: float | None = None
    for detail in status.details:
        name = detail.type_url.rpartition("/")[2]
        if name == "google.rpc.ErrorInfo":
            info.ParseFromString(detail.value)
        elif name == "google.rpc.RetryInfo":
            retry.ParseFromString(detail.value)
            hint_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif name == "google.rpc.BadRequest":
            bad.ParseFromString(detail.value)
    kind = _BY_CODE.get(call.code(), Internal)
    return kind(
        call.details() or kind.__name__,
        reason=info.reason,
        metadata=dict(info.metadata),
        retry_after_s=hint_s,
        violations=tuple(Violation(each.field, each.description) for each in bad.field_violations),
        request_id=request_id,
    )
