"""Objects in any S3, through the `minio` client.

`put_object` of that client cannot send `If-None-Match`, so a conditional create is a presigned PUT sent with the
header. Presigned URLs live minutes and are kept out of logs. minio-py's own retries are off: they would hide a lost
reply, and its default timeouts stall for half an hour on a black hole.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import certifi
import urllib3
from minio import Minio
from minio.commonconfig import ComposeSource
from minio.error import S3Error, ServerError

from luthier_kit.artifacts.objects import CHUNK_BYTES, ObjectStore, OpenSource, Stored, check_key
from luthier_kit.artifacts.patience import ABSENT, TROUBLE, Patience, patiently
from luthier_kit.errors import DataLoss, NotFound, Unavailable

T = TypeVar("T")
PART_BYTES = 8 << 20  # at most 10,000 parts: objects of up to 80 GB, about three parts in memory
_CONNECT_S = 3.0
_PRESIGNED_FOR = timedelta(minutes=15)


@dataclass(frozen=True)
class Endpoint:
    """Where the store is, and how long to be patient with it.

    `host` is `name:port`; `patience_s` bounds the time without progress of one operation.
    """

    host: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    secure: bool = False
    patience_s: float = 15.0


class S3Store(ObjectStore):
    """One bucket of an S3 endpoint. Threads may share it; processes must not."""

    def __init__(self, endpoint: Endpoint, bucket: str) -> None:
        self.endpoint, self.bucket = endpoint, bucket
        _keep_presigned_urls_out_of_logs()
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=min(_CONNECT_S, endpoint.patience_s / 2), read=endpoint.patience_s / 2),
            retries=False,
            maxsize=16,
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        )
        self._client = Minio(
            endpoint.host,
            access_key=endpoint.access_key,
            secret_key=endpoint.secret_key,
            region=endpoint.region,
            secure=endpoint.secure,
            http_client=self._http,
        )

    def __repr__(self) -> str:
        return f"S3Store({self.endpoint.host!r}, {self.bucket!r})"

    def ensure_bucket(self, *, create: bool) -> None:
        def attempt() -> None:
            if self._client.bucket_exists(self.bucket):
                return
            if not create:
                text = f"object store at {self.endpoint.host} has no bucket {self.bucket!r}"
                raise Unavailable(text, reason="STORE_BUCKET_MISSING")
            try:
                self._client.make_bucket(self.bucket, location=self.endpoint.region)
            except S3Error as error:
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise

        self._try(attempt)

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        return self._try(lambda: self._put_if_absent(key, data)) or self._holds(key, data)

    def put(self, key: str, source: OpenSource, size_bytes: int, media_type: str) -> None:
        def attempt() -> None:
            with source() as reader:
                self._client.put_object(
                    self.bucket, check_key(key), reader, size_bytes, media_type,
                    part_size=PART_BYTES, num_parallel_uploads=1,
                )  # fmt: skip

        self._try(attempt)

    def stat(self, key: str) -> Stored | None:
        try:
            found = self._try(lambda: self._client.stat_object(self.bucket, check_key(key)), absent=True)
        except NotFound:
            return None
        written_at = found.last_modified.timestamp() if found.last_modified else time.time()  # unsaid: taken for young
        return Stored(key, found.size or 0, written_at)

    def chunks(self, key: str) -> Iterator[bytes]:
        """Resumes at the byte reached when the connection breaks: objects are immutable, and readers check digests."""
        patience, offset = Patience(self.endpoint.host, self.endpoint.patience_s), 0
        while True:
            try:
                for chunk in self._download(check_key(key), offset):
                    offset += len(chunk)
                    yield chunk
                    patience.progress()
                return
            except TROUBLE as error:
                if isinstance(error, S3Error) and error.code in ABSENT:
                    raise NotFound(f"no object {key}", reason="OBJECT_NOT_FOUND") from None
                if isinstance(error, S3Error) and error.code == "InvalidRange":
                    return  # nothing lies behind the byte reached
                patience.failed(error)

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

    def sibling(self, bucket: str) -> S3Store:
        return S3Store(self.endpoint, bucket)

    def _try(self, attempt: Callable[[], T], *, absent: bool = False) -> T:
        def guarded() -> T:
            try:
                return attempt()
            except S3Error as error:
                if absent and error.code in ABSENT:
                    raise NotFound("no such object", reason="OBJECT_NOT_FOUND") from None
                raise

        return patiently(self.endpoint.host, self.endpoint.patience_s, guarded)

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

    def _list(self, prefix: str, *, recursive: bool) -> list:
        return self._try(lambda: list(self._client.list_objects(self.bucket, prefix, recursive=recursive)))


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
