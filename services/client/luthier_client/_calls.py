"""What calls share: where they go, who makes them, when they are tried again, how they are given up."""

import hashlib
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import grpc

from luthier.inference.v1 import inference_pb2 as pb
from luthier_client._errors import Cancelled, DataLoss, LuthierError

REQUEST_ID_KEY: Final = "x-request-id"
SYSTEM: Final = "system"
Metadata = tuple[tuple[str, str], ...]
OnProgress = Callable[[pb.GenerateProgress], object]
_SERVICE_CONFIG: Final = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.keepalive_time_ms", 30_000),  # a connection that died without a word is noticed
)


@dataclass(frozen=True)
class Retry:
    """When a call is made again that was refused for now.

    After the server's hint; where there is none after `first_s`, then twice as long each time up to `longest_s`, less a
    random part of a half. It is given up when the next attempt would begin more than `budget_s` after the first
    failure; 0 = never again.
    """

    budget_s: float = 600.0
    first_s: float = 0.5
    longest_s: float = 30.0


class Waits:
    """The waits between the attempts of one call."""

    def __init__(self, retry: Retry) -> None:
        self._retry, self._next_s = retry, retry.first_s
        self._began: float | None = None

    def after(self, error: LuthierError) -> float:
        """Seconds to wait before the next attempt; raises `error` where there is none."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        backoff_s = self._next_s * random.uniform(0.5, 1.0)  # spreads callers, nothing else
        self._next_s = min(2 * self._next_s, self._retry.longest_s)
        wait_s = backoff_s if error.retry_after_s is None else error.retry_after_s
        if not error.is_retryable or now + wait_s - self._began > self._retry.budget_s:
            raise error
        return wait_s


class Cancel:
    """Gives up the calls that were made with it, from any thread and for good."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._calls: list[Any] = []

    def cancel(self) -> None:
        """Ends the calls: they raise Cancelled."""
        with self._lock:
            self._set.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call.cancel()

    @property
    def is_set(self) -> bool:
        return self._set.is_set()

    def wait(self, seconds: float) -> None:
        """Waits so long; raises Cancelled when it is given up meanwhile."""
        if self._set.wait(seconds):
            raise Cancelled("given up by the caller")

    @contextmanager
    def ending(self, call: Any) -> Iterator[None]:
        """`call` is ended when this is set within the block."""
        with self._lock:
            if not self._set.is_set():
                self._calls.append(call)
        if self.is_set:
            call.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._calls = [each for each in self._calls if each is not call]


@dataclass(frozen=True)
class Connection:
    """Where a client calls, and as whom.

    `token_file` is read for each call, so that a token can be replaced. `tls_ca` is a PEM file of the authority to
    trust or `system`; without it there is no TLS. `tls_cert` and `tls_key` are what the client shows where TLS is
    mutual.
    """

    address: str
    token: str = ""
    token_file: str | Path = ""
    tls_ca: str | Path = ""
    tls_cert: str | Path = ""
    tls_key: str | Path = ""

    def __post_init__(self) -> None:
        if self.token and self.token_file:
            raise ValueError("token and token_file: give one of the two")
        if bool(self.tls_cert) != bool(self.tls_key) or (self.tls_cert and not self.tls_ca):
            raise ValueError("tls_cert and tls_key go together, with tls_ca")

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None = no TLS."""
        if not self.tls_ca:
            return None
        authority = None if str(self.tls_ca) == SYSTEM else Path(self.tls_ca).read_bytes()
        own = (Path(self.tls_key).read_bytes(), Path(self.tls_cert).read_bytes()) if self.tls_cert else (None, None)
        return grpc.ssl_channel_credentials(authority, *own)

    def metadata(self, request_id: str) -> Metadata:
        """What a call says of itself."""
        token = Path(self.token_file).read_text().strip() if self.token_file else self.token
        said = ((REQUEST_ID_KEY, request_id),)
        return (*said, ("authorization", f"Bearer {token}")) if token else said


def identified(request: pb.GenerateRequest) -> pb.GenerateRequest:
    """A request with an id of its own, so that an attempt on any server is the same request: where no seed is asked
    for, it follows from the id.
    """
    own = pb.GenerateRequest()
    own.CopyFrom(request)
    own.request_id = own.request_id or uuid.uuid4().hex
    return own


class Target:
    """A file that is written beside its place and moved there when it is whole."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._part = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}.part")

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file to write to. What was written is gone where the block fails."""
        try:
            with self._part.open("wb") as file:
                yield file
        except BaseException:
            self._part.unlink(missing_ok=True)
            raise

    def finish(self, response: pb.GenerateResponse) -> None:
        """Puts the file in its place. DataLoss when its bytes are not those of the response."""
        with self._part.open("rb") as file:
            found = hashlib.sha256()
            while block := file.read(1 << 20):
                found.update(block)
        if found.hexdigest() != response.audio.sha256:
            self._part.unlink()
            raise DataLoss(f"{self.path}: the audio that arrived is not what was made", reason="AUDIO_DAMAGED")
        self._part.replace(self.path)
