"""How long an operation on S3 may go without progress, and what each failure of the store means.

Attempts are cut short by socket timeouts; between them the wait grows. What counts is the time without progress, so a
long upload that breaks is tried again while a store that is gone or never answers is given up after `limit_s`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError

from luthier_kit.errors import FailedPrecondition, Internal, LuthierError, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

TROUBLE = (HTTPError, InvalidResponseError, S3Error, ServerError, OSError)
ABSENT = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound"})
_TRANSIENT = frozenset(
    {
        "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "NoSuchUpload",
        "OperationAborted", "RequestTimeout", "XAmzContentSHA256Mismatch",
        "ServerNotInitialized", "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling",
        "XMinioServerNotInitialized",
    }
)  # fmt: skip
_CREDENTIALS = frozenset(
    {
        "AccessDenied", "AccountProblem", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId",
        "InvalidToken", "SignatureDoesNotMatch",
    }
)  # fmt: skip
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class Patience:
    """The time without progress that one operation has left."""

    def __init__(self, endpoint: str, limit_s: float) -> None:
        self.endpoint, self.limit_s = endpoint, limit_s
        self._spent_s, self._pause_s, self._began_s = 0.0, _FIRST_PAUSE_S, time.monotonic()

    def progress(self) -> None:
        """Bytes arrived: the clock starts again."""
        self._spent_s, self._pause_s, self._began_s = 0.0, _FIRST_PAUSE_S, time.monotonic()

    def failed(self, error: Exception) -> None:
        """Wait before the next attempt, or raise what `error` means when it will not pass or time is up."""
        if not is_transient(error):
            raise meaning(error, self.endpoint) from None
        self._spent_s += min(time.monotonic() - self._began_s, self.limit_s / 2)
        pause_s = self._pause_s * random.uniform(0.75, 1.25)
        if self._spent_s + pause_s >= self.limit_s:
            raise meaning(error, self.endpoint) from None
        log.info("object store: %s; next attempt in %.1f s", summary(error), pause_s)
        time.sleep(pause_s)
        self._spent_s += pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._began_s = time.monotonic()


def patiently(endpoint: str, limit_s: float, attempt: Callable[[], T]) -> T:
    """Call `attempt` until it answers, fails for good, or patience ends."""
    patience = Patience(endpoint, limit_s)
    while True:
        try:
            return attempt()
        except LuthierError:
            raise
        except TROUBLE as error:
            patience.failed(error)


def is_transient(error: Exception) -> bool:
    """True when the same request may succeed a moment later."""
    if isinstance(error, S3Error):
        return error.code in _TRANSIENT
    if isinstance(error, ServerError):
        return True
    return isinstance(error, HTTPError | InvalidResponseError | OSError)


def summary(error: Exception) -> str:
    """What went wrong in a few words, free of URLs (they may be presigned) and keys."""
    if isinstance(error, S3Error):
        return f"S3 error {error.code}"
    if isinstance(error, ServerError):
        return f"HTTP status {error.status_code}"
    return type(error).__name__


def meaning(error: Exception, endpoint: str) -> LuthierError:
    """The exception that callers see. Messages name the endpoint, never a secret or a URL."""
    code = error.code if isinstance(error, S3Error) else ""
    where = f"object store at {endpoint}"
    if code in _CREDENTIALS:
        text = f"{where} refused this service's credentials ({code}); check LUTHIER_S3_ACCESS_KEY and its secret"
        return Unavailable(text, reason="STORE_CREDENTIALS_REFUSED")
    if code == "RequestTimeTooSkewed":
        return Unavailable(f"{where}: the clocks differ by more than 15 minutes", reason="STORE_CLOCK_SKEW")
    if code == "NoSuchBucket":
        return Unavailable(f"{where} has no such bucket; check LUTHIER_BUCKET", reason="STORE_BUCKET_MISSING")
    if code in {"NotImplemented", "MethodNotAllowed"}:
        text = f"{where} does not implement what Luthier needs ({code})"
        return FailedPrecondition(text, reason="STORE_NOT_SUITABLE")
    if is_transient(error):
        return Unavailable(f"{where} does not answer ({summary(error)})", reason="STORE_UNAVAILABLE")
    return Internal(f"{where} answered {summary(error)}", reason="STORE_ERROR")
