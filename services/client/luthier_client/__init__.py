"""Calls Luthier's inference service from any project: `Client`, and `AsyncClient` for asyncio.

The messages are `luthier.inference.v1.inference_pb2`, whose type stubs have the contract's comments.
"""

from luthier_client._aio import AsyncClient
from luthier_client._calls import Cancel, Retry
from luthier_client._client import Client
from luthier_client._errors import (
    Aborted,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    LuthierError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Violation,
)

__all__ = [
    "Aborted",
    "AsyncClient",
    "Cancel",
    "Cancelled",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidRequest",
    "LuthierError",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "Retry",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
]
