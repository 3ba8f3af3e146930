"""The platform's errors: one tree, one gRPC status each.

* LuthierError
  - InvalidRequest       INVALID_ARGUMENT     bad input or beyond a bound; carries field violations
  - NotFound             NOT_FOUND            no such artifact, model, clip, run
  - FailedPrecondition   FAILED_PRECONDITION  digest differs, checkpoint does not fit
  - Aborted              ABORTED              someone else edited first
  - DataLoss             DATA_LOSS            stored bytes are corrupt
  - PermissionDenied     PERMISSION_DENIED    bucket not on the allow list, caller not allowed
  - Unauthenticated      UNAUTHENTICATED      no or bad credentials
  - Unavailable          UNAVAILABLE          a dependency is down; retry after the hint
    - Busy               UNAVAILABLE          the queue is full; retry after the hint
  - QuotaExceeded        RESOURCE_EXHAUSTED   a caller's quota, gRPC's message limit, a worker's memory or disk
  - Cancelled            CANCELLED            the caller went away
  - DeadlineExceeded     DEADLINE_EXCEEDED    the caller's time ran out
  - Unimplemented        UNIMPLEMENTED        not built yet
  - Internal             INTERNAL             a bug; says nothing more
"""

from collections.abc import Sequence

import grpc

Violation = tuple[str, str]


class LuthierError(Exception):
    """An expected failure.

    `reason` is stable and UPPER_SNAKE; the message is for people; `metadata` is for programs. `permanent` errors of a
    stage are recorded, so that the same input is not tried again.
    """

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"
    permanent = False

    def __init__(self, message: str, *, reason: str = "", **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason
        self.metadata = metadata


class InvalidRequest(LuthierError):
    """The caller must change the request. `violations` pairs a field path with the bound that it breaks."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"
    permanent = True

    def __init__(
        self, message: str = "", *, reason: str = "", violations: Sequence[Violation] = (), **metadata: str
    ) -> None:
        text = message or "; ".join(f"{field}: {bound}" for field, bound in violations)
        super().__init__(text, reason=reason, **metadata)
        self.violations = tuple(violations)


class NotFound(LuthierError):
    """An artifact or resource is absent."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "NOT_FOUND"


class FailedPrecondition(LuthierError):
    """The input exists but does not fit."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"
    permanent = True


class Aborted(LuthierError):
    """Someone else edited first."""

    code = grpc.StatusCode.ABORTED
    reason = "REVISION_MISMATCH"


class DataLoss(LuthierError):
    """Stored bytes are corrupt."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "ARTIFACT_CORRUPT"


class PermissionDenied(LuthierError):
    """The caller may not."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class Unauthenticated(LuthierError):
    """No credentials, or bad ones."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class Unavailable(LuthierError):
    """A dependency is down for now; `retry_after_s` says when to come back."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"

    def __init__(self, message: str, *, reason: str = "", retry_after_s: float = 1.0, **metadata: str) -> None:
        super().__init__(message, reason=reason, **metadata)
        self.retry_after_s = retry_after_s


class Busy(Unavailable):
    """Every slot works and every place in the queue is taken."""

    reason = "BUSY"


class QuotaExceeded(LuthierError):
    """A caller's quota, gRPC's message limit, or a piece of work that wants more memory or disk than a worker has."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"


class Cancelled(LuthierError):
    """The caller went away."""

    code = grpc.StatusCode.CANCELLED
    reason = "CANCELLED"


class DeadlineExceeded(LuthierError):
    """The caller's time ran out."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Unimplemented(LuthierError):
    """Not built yet."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNIMPLEMENTED"


class Internal(LuthierError):
    """A bug. The trace is in the log of the service."""


BY_CODE: dict[grpc.StatusCode, type[LuthierError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest, NotFound, FailedPrecondition, Aborted, DataLoss, PermissionDenied, Unauthenticated,
        Unavailable, QuotaExceeded, Cancelled, DeadlineExceeded, Unimplemented, Internal,
    )
}  # fmt: skip
