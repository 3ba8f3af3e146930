"""Objects in any S3, through the `minio` client.

`put_object` of that client cannot send `If-None-Match`, so a conditional create is a presigned PUT sent with the
header. Presigned URLs live minutes and are kept out of logs. minio-py's own retries are off: they would hide a lost
reply, and its default timeouts stall for half an hour on a black hole.

Attempts are cut short by socket timeouts and tried again by one policy. What counts is the time without progress: an
attempt counts for half the budget at most, so that a long upload that breaks is tried again while a store that is gone
or never answers is given up when the budget is spent.
"""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice, takewhile
from typing import Any, TypeVar

import certifi
import urllib3
from minio import Minio
from minio.commonconfig import ComposeSource
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError

from luthier_kit.rpc import (
    DataLoss,
    FailedPrecondition,
    Internal,
    LuthierError,
    NotFound,
    PermissionDenied,
    RetryBudget,
    Unavailable,
    retry_policy,
)
from luthier_kit.store._identity import Identity, RenewedKeys
from luthier_kit.store._objects import CHUNK_BYTES, ObjectStore, OpenSource, Stored, check_key

log = logging.getLogger(__name__)
T = TypeVar("T")
PART_BYTES = 8 << 20  # at most 10,000 parts: objects of up to 80 GB, about three parts in memory
_CONNECT_S = 3.0
_PRESIGNED_FOR = timedelta(minutes=15)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_WORTH_A_LISTING = 20  # keys of a folder
_HEADS_OF_A_PAGE = 10  # that cost about what a page of a listing does: one that finds fewer keys did not pay
_PAGE = 1000  # names of a listing's page
_DIGITS = "123456789abcdef"  # between which names are listed at once
MARK_FRESH_S = 1.0
"""For so long the mark counts as seen: one small request a second tells a bucket from another one in its place."""

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
_SETTINGS = {
    "STORE_CREDENTIALS_REFUSED": "LUTHIER_S3_ACCESS_KEY, its secret and its policy (of an identity: its role's)",
    "STORE_BUCKET_MISSING": "LUTHIER_BUCKET",
}
"""What an operator would look at, by reason."""
_DENIED = "AccessDenied"
_MAX_PREFIX_CHARS = 100


class _WithoutProgress(RetryBudget):
    """What counts is the time without progress: pauses, and half of the budget at most for each attempt."""

    def __init__(self, budget_s: float) -> None:
        super().__init__(budget_s)
        self._spent_s = 0.0
        self._asked = time.monotonic()

    def left_s(self) -> float:
        now = time.monotonic()
        self._spent_s += min(now - self._asked, self.budget_s / 2)
        self._asked = now
        return self.budget_s - self._spent_s


@dataclass(frozen=True)
class Endpoint:
    """Where the store is. `host` is `name:port`; `retry_budget_s` bounds one operation's time without progress.

    With an `identity` the keys come from it and are renewed; `access_key` and `secret_key` are then not used.
    """

    host: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    secure: bool = False
    retry_budget_s: float = 15.0
    identity: Identity | None = None


class S3Store(ObjectStore):
    """One bucket of an S3 endpoint. Threads may share it; processes must not. `pool`: the class of its connections."""

    def __init__(self, endpoint: Endpoint, bucket: str, pool: type[urllib3.PoolManager] = urllib3.PoolManager) -> None:
        self.endpoint, self.bucket = endpoint, bucket
        self._mark_seen_at = float("-inf")  # monotonic clock
        _keep_presigned_urls_out_of_logs()
        self._http = pool(
            timeout=urllib3.Timeout(
                connect=min(_CONNECT_S, endpoint.retry_budget_s / 2), read=endpoint.retry_budget_s / 2
            ),
            retries=False,
            maxsize=16,
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        )
        self._client = Minio(
            endpoint.host,
            access_key=None if endpoint.identity else endpoint.access_key,
            secret_key=None if endpoint.identity else endpoint.secret_key,
            region=endpoint.region,
            secure=endpoint.secure,
            http_client=self._http,
            credentials=RenewedKeys(endpoint.identity, self._http) if endpoint.identity else None,
        )

    def __repr__(self) -> str:
        return f"S3Store({self.endpoint.host!r}, {self.bucket!r})"

    def ensure_bucket(self, *, create: bool) -> None:
        def attempt() -> None:
            if self._client.bucket_exists(self.bucket):
                return
            if not create:
                text = f"object store at {self.endpoint.host} has no bucket {self.bucket!r}"
                raise Unavailable(text, reason="STORE_BUCKET_MISSING", public="the artifact store is not there")
            try:
                self._client.make_bucket(self.bucket, location=self.endpoint.region)
            except S3Error as error:
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise

        self._try(attempt)

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        self._require_mark()
        return self._try(lambda: self._put_if_absent(key, data)) or self._holds(key, data)

    def put(self, key: str, source: OpenSource, size_bytes: int, media_type: str) -> None:
        self._require_mark()

        def attempt() -> None:
            with source() as reader:
                self._client.put_object(
                    self.bucket, check_key(key), reader, size_bytes, media_type,
                    part_size=PART_BYTES, num_parallel_uploads=1,
                )  # fmt: skip

        self._try(attempt)

    def stat(self, key: str) -> Stored | None:
        def attempt() -> Stored | None:
            try:
                found = self._client.stat_object(self.bucket, check_key(key))
            except S3Error as error:
                if error.code in ABSENT:
                    return None
                raise
            written_at = found.last_modified.timestamp() if found.last_modified else time.time()  # unsaid: young
            return Stored(key, found.size or 0, written_at)

        found = self._try(attempt, reads=key)
        if found is None:
            self._require_mark()
        return found

    def sizes(self, keys: Collection[str]) -> dict[str, int]:
        """A page of a listing costs about as much as ten objects' heads and tells of a thousand objects, so folders in
        which many are asked for are listed for as long as that pays; the rest are asked for one by one. Of a large
        corpus's folder a shard's keys are a few of each page."""
        of_folder: dict[str, set[str]] = defaultdict(set)
        for key in keys:
            of_folder[check_key(key).rpartition("/")[0]].add(key)
        found: dict[str, int] = {}
        for folder, wanted in of_folder.items():
            left = set(wanted)
            if len(wanted) >= _WORTH_A_LISTING:
                listing = self._listing(f"{folder}/")
                while left and (page := list(islice(listing, _PAGE))):
                    sizes = {one.object_name: one.size or 0 for one in page if one.object_name in left}
                    found |= sizes
                    left -= sizes.keys()
                    if len(sizes) < _HEADS_OF_A_PAGE:
                        break
            found |= super().sizes(left)
        return found

    def chunks(self, key: str) -> Iterator[bytes]:
        """Resumes at the byte reached when the connection breaks: objects are immutable, and readers check digests."""
        stream: Iterator[bytes] | None = None
        offset = 0

        def next_chunk() -> bytes | None:
            nonlocal stream
            try:
                stream = stream or self._download(check_key(key), offset)
                return next(stream, None)
            except S3Error as error:
                stream = None
                if error.code in ABSENT:
                    raise NotFound(f"no object {key}", reason="OBJECT_NOT_FOUND") from None
                if error.code == "InvalidRange":
                    return None  # nothing lies behind the byte reached
                raise
            except TROUBLE:
                stream = None
                raise

        try:
            while chunk := self._try(next_chunk, reads=key):
                offset += len(chunk)
                yield chunk
        except NotFound:
            self._require_mark()
            raise

    def get(self, key: str, max_bytes: int) -> bytes | None:
        data = bytearray()
        try:
            for chunk in self.chunks(key):
                data += chunk
                if len(data) > max_bytes:
                    raise DataLoss(f"{key} is longer than {max_bytes} bytes", reason="OBJECT_TOO_LONG")
        except NotFound:
            return None
        return bytes(data)

    def keys(self, prefix: str) -> Iterator[str]:
        return iter([o.object_name for o in self._list(prefix, recursive=True) if o.object_name])

    def key_set(self, prefix: str) -> set[str]:
        """A page of a listing has a thousand names, and one comes after the other; most names begin with a digit of a
        digest, so that what lies between the digits is listed at once."""
        self._require_mark()

        def between(after: str, until: str, most: int | None = None) -> set[str]:
            listed = self._client.list_objects(self.bucket, prefix, recursive=True, start_after=after or None)
            names = (one.object_name for one in islice(listed, most) if one.object_name)
            return set(takewhile(lambda name: not until or name <= until, names))

        found = self._try(lambda: between("", "", _PAGE))
        if len(found) < _PAGE:
            return found
        bounds = [bound for digit in _DIGITS if (bound := f"{prefix}{digit}") > max(found)]
        ranges = list(zip([max(found), *bounds], [*bounds, ""], strict=True))
        with ThreadPoolExecutor(len(ranges)) as pool:
            return found.union(*pool.map(lambda one: self._try(lambda: between(*one)), ranges))

    def stored(self, prefix: str) -> Iterator[Stored]:
        for found in self._list(prefix, recursive=True):
            if found.object_name and found.last_modified:
                yield Stored(found.object_name, found.size or 0, found.last_modified.timestamp())

    def children(self, prefix: str) -> list[str]:
        listed = self._list(prefix, recursive=False)
        return sorted(o.object_name[len(prefix) : -1] for o in listed if o.object_name and o.is_dir)

    def move(self, key: str, to: str) -> None:
        def attempt() -> None:
            self._client.compose_object(self.bucket, check_key(to), [ComposeSource(self.bucket, check_key(key))])
            self._client.remove_object(self.bucket, key)

        if self.size_bytes(key) is not None:
            self._try(attempt)

    def delete(self, key: str) -> None:
        self._try(lambda: self._client.remove_object(self.bucket, check_key(key)))

    def sibling(self, bucket: str) -> "S3Store":
        return S3Store(self.endpoint, bucket)

    def _try(self, attempt: Callable[[], T], *, reads: str = "") -> T:
        """Calls `attempt` until it answers, fails for good, or its time without progress is spent. `reads` is the key
        that it reads.
        """
        budget = _WithoutProgress(self.endpoint.retry_budget_s)
        policy = retry_policy(
            budget, is_transient, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S, log=log, summary=summary
        )
        try:
            return policy(attempt)
        except LuthierError:
            raise
        except TROUBLE as error:
            if reads and isinstance(error, S3Error) and error.code == _DENIED and self._may_list(reads):
                raise self._may_not_read(reads) from None
            raise meaning(error, self.endpoint.host) from None

    def _may_list(self, prefix: str) -> bool:
        """Whether the store knows this service's key, which may list whatever else it may do (deploy/store). A refused
        HEAD has no body: it alone does not tell a wrong secret from a policy.
        """
        try:
            next(iter(self._client.list_objects(self.bucket, prefix)), None)
        except TROUBLE:
            return False
        return True

    def _may_not_read(self, key: str) -> PermissionDenied:
        """The exception of a key outside the prefixes that this service's policy names. Callers name what is read, so a
        retry brings the same; what is written has names of our own, and a refusal is the operator's to mend.
        """
        prefix = f"{key.rpartition('/')[0][:_MAX_PREFIX_CHARS]}/"
        what = f"does not let this service read {prefix}"
        text, public = f"object store at {self.endpoint.host} {what}; check its policy", f"the artifact store {what}"
        return PermissionDenied(text, reason="STORE_ACCESS_DENIED", public=public)

    def _put_if_absent(self, key: str, data: bytes) -> bool:
        url = self._client.get_presigned_url("PUT", self.bucket, key, expires=_PRESIGNED_FOR)
        headers = {"If-None-Match": "*", "Content-Type": "application/json"}
        response = self._http.urlopen("PUT", url, body=data, headers=headers, redirect=False)
        if response.status in {200, 412}:
            return response.status == 200
        raise _error_of(response)

    def _holds(self, key: str, data: bytes) -> bool:
        """After a 412: is the object that is there the one we sent in an attempt whose reply was lost?"""
        return self.size_bytes(key) == len(data) and self.get(key, len(data)) == data

    def _download(self, key: str, offset: int) -> Iterator[bytes]:
        response = self._client.get_object(self.bucket, key, offset=offset)
        try:
            yield from response.stream(CHUNK_BYTES)
        finally:
            response.close()
            response.release_conn()

    def _require_mark(self) -> None:
        """What is absent from a bucket that was lost or replaced is not absent, and is not written there anew."""
        if self.mark is None or time.monotonic() < self._mark_seen_at + MARK_FRESH_S:
            return
        key, data = self.mark

        def attempt() -> bytes:
            try:
                return next(self._download(key, 0), b"")
            except S3Error as error:
                if error.code in ABSENT:
                    return b""
                raise

        asked_at = time.monotonic()
        if self._try(attempt) != data:
            raise self.lost(key)
        self._mark_seen_at = asked_at

    def _listing(self, prefix: str) -> Iterator[Any]:
        """What lies below a prefix, page by page. What a page that fails would have told is left out."""
        self._require_mark()
        try:
            yield from self._client.list_objects(self.bucket, prefix, recursive=True)
        except TROUBLE as error:
            log.info("the listing of %s ended early: %s", prefix, summary(error))

    def _list(self, prefix: str, *, recursive: bool) -> list[Any]:
        self._require_mark()
        return self._try(lambda: list(self._client.list_objects(self.bucket, prefix, recursive=recursive)))


def is_transient(error: BaseException) -> bool:
    """True when the same request may succeed a moment later."""
    if isinstance(error, LuthierError):
        return False
    if isinstance(error, S3Error):
        return error.code in _TRANSIENT
    if isinstance(error, ServerError):
        return True
    return isinstance(error, HTTPError | InvalidResponseError | OSError)


def summary(error: BaseException) -> str:
    """What went wrong in a few words, free of URLs (they may be presigned) and keys."""
    if isinstance(error, S3Error):
        return f"S3 error {error.code}"
    if isinstance(error, ServerError):
        return f"HTTP status {error.status_code}"
    return type(error).__name__


def meaning(error: Exception, endpoint: str) -> LuthierError:
    """The exception of a failed request. Its message names the endpoint, what callers of a service are told does not;
    neither has a secret or a URL."""
    code = error.code if isinstance(error, S3Error) else ""
    kind: type[LuthierError] = Unavailable
    if code in _CREDENTIALS:
        what, reason = f"refused this service's credentials ({code})", "STORE_CREDENTIALS_REFUSED"
    elif code == "RequestTimeTooSkewed":
        what, reason = "refused the time: the clocks differ by more than 15 minutes", "STORE_CLOCK_SKEW"
    elif code == "NoSuchBucket":
        what, reason = "has no such bucket", "STORE_BUCKET_MISSING"
    elif code in {"NotImplemented", "MethodNotAllowed"}:
        kind, what, reason = FailedPrecondition, f"does not implement what Luthier needs ({code})", "STORE_NOT_SUITABLE"
    elif is_transient(error):
        what, reason = f"does not answer ({summary(error)})", "STORE_UNAVAILABLE"
    else:
        kind, what, reason = Internal, f"answered {summary(error)}", "STORE_ERROR"
    check = f"; check {_SETTINGS[reason]}" if reason in _SETTINGS else ""
    text, public = f"object store at {endpoint} {what}{check}", f"the artifact store {what}"
    return kind(text, reason=reason, public=public)


def _error_of(response: urllib3.BaseHTTPResponse) -> Exception:
    if "xml" in response.headers.get("Content-Type", "") and response.data:
        return S3Error.fromxml(response)
    return ServerError("the conditional create failed", response.status)


class _NoPresignedUrls(logging.Filter):
    """urllib3 logs request lines at DEBUG; a presigned one is a credential."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "X-Amz-Signature" not in record.getMessage()


_FILTER = _NoPresignedUrls()


def _keep_presigned_urls_out_of_logs() -> None:
    logging.getLogger("urllib3.connectionpool").addFilter(_FILTER)
