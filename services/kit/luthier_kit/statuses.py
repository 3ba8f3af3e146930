"""Errors to gRPC statuses and back: the wire form of `luthier_kit.errors`."""

from collections import namedtuple

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from luthier_kit import errors
from luthier_kit.errors import InvalidRequest, LuthierError, Unavailable

MAX_VIOLATIONS = 20  # statuses travel in HTTP/2 headers, which end at 8 KiB
MAX_MESSAGE = 1000
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
UNREACHABLE = "UNREACHABLE"


class GrpcStatus(namedtuple("GrpcStatus", ("code", "details", "trailing_metadata")), grpc.Status):
    """What `context.abort_with_status` takes."""


def to_proto(error: BaseException, domain: str) -> status_pb2.Status:
    """The status of an error; a bug says `internal error` and nothing more."""
    if not isinstance(error, LuthierError):
        error = errors.Internal("internal error")
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=domain, metadata=error.metadata)]
    if isinstance(error, InvalidRequest) and error.violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=bound[:MAX_MESSAGE])
            for field, bound in error.violations[:MAX_VIOLATIONS]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if isinstance(error, Unavailable):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=error.code.value[0], message=str(error)[:MAX_MESSAGE])
    for detail in details:
        status.details.add().Pack(detail)
    return status


def to_grpc(error: BaseException, domain: str) -> GrpcStatus:
    """The status with trailing metadata, retry pushback included."""
    plain = rpc_status.to_status(to_proto(error, domain))
    trailing = list(plain.trailing_metadata)
    if isinstance(error, Unavailable):
        trailing.append((PUSHBACK_KEY, str(int(error.retry_after_s * 1000))))
    return GrpcStatus(plain.code, plain.details, tuple(trailing))


def from_proto(status: status_pb2.Status) -> LuthierError:
    """The error that a status stands for; see `from_call` for transport failures."""
    info, violations, retry_after_s = error_details_pb2.ErrorInfo(), [], None
    for detail in status.details:
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            continue
        if detail.Unpack(bad):
            violations = [(item.field, item.description) for item in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    code = next((code for code in grpc.StatusCode if code.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    kind = errors.BY_CODE.get(code, errors.Internal)
    if info.reason == errors.Busy.reason:
        kind = errors.Busy
    extra: dict[str, object] = {}
    if issubclass(kind, InvalidRequest):
        extra["violations"] = violations
    if issubclass(kind, Unavailable) and retry_after_s is not None:
        extra["retry_after_s"] = retry_after_s
    metadata = {key: value for key, value in info.metadata.items() if key not in ("message", "reason", *extra)}
    return kind(status.message, reason=info.reason, **extra, **metadata)  # type: ignore[arg-type]


def from_call(error: grpc.RpcError) -> LuthierError:
    """The error behind a failed call.

    A Luthier server always attaches an ErrorInfo; a failure without one comes from the transport (connection refused
    or reset, server killed), which is UNAVAILABLE whatever gRPC calls it. Deadlines and size limits keep their names.
    """
    status = rpc_status.from_call(error)
    if status is not None and any(d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) for d in status.details):
        return from_proto(status)
    code, text = error.code(), error.details() or ""
    transport = (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
    )
    if code in transport:
        return Unavailable(text or "connection lost", reason=UNREACHABLE)
    return errors.BY_CODE.get(code, errors.Internal)(text)
