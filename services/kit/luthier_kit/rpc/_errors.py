"""The platform's errors: one tree, one gRPC status each, and their form on the wire (google.rpc.Status and details).

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
  - Internal             INTERNAL             a bug; callers get no details
"""

from collections import namedtuple
from collections.abc import Sequence

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

# A status travels in HTTP/2 headers, of which peers take 8 KiB: its message percent-encoded, and once more with its
# details, base64-encoded.
MAX_VIOLATIONS = 20
MAX_VIOLATION_BYTES = 1800
MAX_MESSAGE_CHARS = 500
MAX_MESSAGE_BYTES = 1500
MAX_FIELD_BYTES = 120
PUSHBACK_KEY = "grpc-retry-pushback-ms"
UNREACHABLE = "UNREACHABLE"
"""Reason of an Unavailable that no server sent: the connection failed."""
CALLER_IN_FLIGHT = "CALLER_IN_FLIGHT"
"""Reason of a QuotaExceeded that passes when one of the caller's own calls ends."""

Violation = tuple[str, str]


class LuthierError(Exception):
    """An expected failure.

    `reason` is stable and UPPER_SNAKE; the message is for people; `metadata` is for programs. `permanent` errors of a
    stage are recorded, so that the same input is not tried again. `public` is what callers of a service are told in
    place of a message that names paths or hosts of the server.
    """

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"
    permanent = False

    def __init__(self, message: str, *, reason: str = "", public: str = "", **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason
        self.public, self.metadata = public, metadata


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
    """A dependency is down for now; `retry_after_s` is the number of seconds after which to try again."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"

    def __init__(
        self, message: str, *, reason: str = "", retry_after_s: float = 1.0, public: str = "", **metadata: str
    ) -> None:
        super().__init__(message, reason=reason, public=public, **metadata)
        self.retry_after_s = retry_after_s


class Busy(Unavailable):
    """Every slot works and every place in the queue is taken."""

    reason = "BUSY"


class QuotaExceeded(LuthierError):
    """A caller's quota, gRPC's message limit, or a piece of work that wants more memory or disk than a worker has.

    `retry_after_s`: when a quota is renewed, seconds; None where waiting does not help, or nobody knows for how long.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"

    def __init__(
        self, message: str, *, reason: str = "", retry_after_s: float | None = None, public: str = "", **metadata: str
    ) -> None:
        super().__init__(message, reason=reason, public=public, **metadata)
        self.retry_after_s = retry_after_s


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


def is_retryable(error: BaseException) -> bool:
    """True when the same call may be answered later."""
    return isinstance(error, Unavailable) or (isinstance(error, QuotaExceeded) and error.reason == CALLER_IN_FLIGHT)


class GrpcStatus(namedtuple("GrpcStatus", ("code", "details", "trailing_metadata")), grpc.Status):
    """What `context.abort_with_status` takes."""


def retry_after_s(error: BaseException) -> float | None:
    """The server's hint when to come back, in seconds; None where an error has none."""
    return error.retry_after_s if isinstance(error, Unavailable | QuotaExceeded) else None


def status_of(error: BaseException, domain: str) -> status_pb2.Status:
    """The status of an error. A bug becomes `internal error` without details.

    It is cut to what a peer takes: violations and long texts go before the ErrorInfo does.
    """
    if not isinstance(error, LuthierError):
        error = Internal("internal error")
    metadata = {name: _cut(value, MAX_FIELD_BYTES) for name, value in error.metadata.items()}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=domain, metadata=metadata)]
    if (hint_s := retry_after_s(error)) is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(hint_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, InvalidRequest) and error.violations:
        bad = error_details_pb2.BadRequest()
        for field, bound in error.violations[:MAX_VIOLATIONS]:
            bad.field_violations.add(field=_cut(field, MAX_FIELD_BYTES), description=_cut(bound, MAX_MESSAGE_CHARS))
            if len(bad.field_violations) > 1 and bad.ByteSize() > MAX_VIOLATION_BYTES:
                del bad.field_violations[-1]
                break
        details.append(bad)
    status = status_pb2.Status(code=error.code.value[0], message=_public(error))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _public(error: LuthierError) -> str:
    """The message for callers, cut to MAX_MESSAGE_CHARS and, percent-encoded, to MAX_MESSAGE_BYTES."""
    text = (error.public or str(error))[:MAX_MESSAGE_CHARS]
    encoded = 0
    for end, byte in enumerate(text.encode(errors="replace")):
        encoded += 1 if 0x20 <= byte <= 0x7E and byte != ord("%") else 3
        if encoded > MAX_MESSAGE_BYTES:
            return _cut(text, end)
    return _cut(text, MAX_MESSAGE_BYTES)


def _cut(text: str, size: int) -> str:
    """The beginning of a text that takes at most `size` bytes, as protobuf can carry it."""
    return text[:size].encode(errors="replace")[:size].decode(errors="ignore")


def grpc_status_of(error: BaseException, domain: str) -> GrpcStatus:
    """The status with trailing metadata, retry pushback included."""
    plain = rpc_status.to_status(status_of(error, domain))
    trailing = list(plain.trailing_metadata)
    if isinstance(error, Unavailable):
        trailing.append((PUSHBACK_KEY, str(int(error.retry_after_s * 1000))))
    return GrpcStatus(plain.code, plain.details, tuple(trailing))


def error_of(status: status_pb2.Status) -> LuthierError:
    """The error that a status stands for; see `error_of_call` for transport failures."""
    info, violations, hint_s = error_details_pb2.ErrorInfo(), [], None
    for detail in status.details:
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            continue
        if detail.Unpack(bad):
            violations = [(item.field, item.description) for item in bad.field_violations]
        elif detail.Unpack(retry):
            hint_s = retry.retry_delay.ToMilliseconds() / 1000
    code = next((code for code in grpc.StatusCode if code.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    kind = BY_CODE.get(code, Internal)
    if info.reason == Busy.reason:
        kind = Busy
    extra: dict[str, object] = {}
    if issubclass(kind, InvalidRequest):
        extra["violations"] = violations
    if issubclass(kind, Unavailable | QuotaExceeded) and hint_s is not None:
        extra["retry_after_s"] = hint_s
    metadata = {key: value for key, value in info.metadata.items() if key not in ("message", "reason", *extra)}
    return kind(status.message, reason=info.reason, **extra, **metadata)  # type: ignore[arg-type]


def error_of_call(error: grpc.RpcError) -> LuthierError:
    """The error behind a failed call.

    A Luthier server always attaches an ErrorInfo; a failure without one comes from the transport (connection refused
    or reset, server killed), which is UNAVAILABLE whatever gRPC calls it. Deadlines and size limits keep their names.
    """
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an RpcError of a call is the call
    if status is not None and any(d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) for d in status.details):
        return error_of(status)
    code, text = error.code(), error.details() or ""
    transport = (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
    )
    if code in transport:
        return Unavailable(text or "connection lost", reason=UNREACHABLE)
    return BY_CODE.get(code, Internal)(text)
