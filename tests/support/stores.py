"""For tests: a real MinIO on loopback, and a proxy before it that loses what it is told to lose."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Protocol

from luthier_kit.store import Endpoint, FolderStore, ObjectStore, S3Store, Store
from tests.support.services import require_tool

_READY_S = 30.0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unused_endpoint(retry_budget_s: float = 15.0) -> Endpoint:
    """Where a server could be started: a free port, credentials of its own."""
    return Endpoint(f"127.0.0.1:{free_port()}", "luthier-tests", os.urandom(12).hex(), retry_budget_s=retry_budget_s)


@contextmanager
def minio_server(
    folder: Path, at: Endpoint | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Endpoint]:
    """Runs MinIO over `folder` until the block ends; skips the test where there is no MinIO (fails in CI).

    `settings` are further variables of its environment.
    """
    endpoint = at or unused_endpoint()
    environment = {
        **os.environ,
        "MINIO_ROOT_USER": endpoint.access_key,
        "MINIO_ROOT_PASSWORD": endpoint.secret_key,
        "MINIO_UPDATE": "off",
        "MINIO_BROWSER": "off",
        **(settings or {}),
    }
    command = [str(require_tool("minio")), "server", "--quiet", "--address", endpoint.host, str(folder)]
    with (folder / "minio.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_ready(endpoint.host, process)
        yield endpoint
    finally:
        process.terminate()
        process.wait(timeout=10)


class OpenStore(Protocol):
    """Opens a bucket of a store as another process would."""

    def __call__(self, bucket: str, allowed: frozenset[str] = frozenset()) -> Store: ...


def open_store_at(where: Endpoint | Path, bucket: str, allowed: frozenset[str] = frozenset()) -> Store:
    """A bucket of an S3 endpoint or of a folder, unproven."""
    objects: ObjectStore = S3Store(where, bucket) if isinstance(where, Endpoint) else FolderStore(where, bucket)
    return Store(objects, allowed)


def damage(store: Store, key: str, data: bytes) -> None:
    """Replace an object's bytes behind the store's back."""
    store.objects.put(key, lambda: io.BytesIO(data), len(data), "application/octet-stream")


def race_to_create(where: Endpoint | Path, bucket: str, key: str, start: Barrier, results: Queue[list[bool]]) -> None:
    """In a process of its own: four threads create `key` when all processes are at `start`; reports who won."""
    store = open_store_at(where, bucket)

    def all_here() -> None:
        start.wait()

    ready = threading.Barrier(4, action=all_here)

    def create(racer: int) -> bool:
        ready.wait()
        return store.objects.create(key, f"{os.getpid()} {racer}".encode())

    with ThreadPoolExecutor(4) as pool:
        results.put(list(pool.map(create, range(4))))


class LossyProxy:
    """A TCP proxy before an S3 server. Its attributes say what to lose, each a number of requests still to spoil.

    `lose_replies`: PUTs reach the server, their reply never comes back. `cut_uploads`: only the beginning of a PUT's
    body reaches the server. `cut_downloads`: the connection breaks inside the reply to a GET.
    """

    def __init__(self, upstream: Endpoint) -> None:
        self.lose_replies = self.cut_uploads = self.cut_downloads = 0
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = replace(upstream, host=f"127.0.0.1:{self._listener.getsockname()[1]}")
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                host, port = self._upstream.host.split(":")
                server = socket.create_connection((host, int(port)))
                _Connection(self, client, server).start()


class _Connection:
    """Both directions of one connection."""

    def __init__(self, proxy: LossyProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._lose_reply = self._cut_reply = False

    def start(self) -> None:
        threading.Thread(target=self._up, daemon=True).start()
        threading.Thread(target=self._down, daemon=True).start()

    def _up(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(1 << 16):
                if data.startswith(b"PUT ") and self._proxy.lose_replies:
                    self._proxy.lose_replies -= 1
                    self._lose_reply = True
                if data.startswith(b"PUT ") and self._proxy.cut_uploads:
                    self._proxy.cut_uploads -= 1
                    self._server.sendall(data + self._client.recv(1 << 16)[:1000])
                    break
                if data.startswith(b"GET ") and self._proxy.cut_downloads:
                    self._proxy.cut_downloads -= 1
                    self._cut_reply = True
                self._server.sendall(data)
        self._close()

    def _down(self) -> None:
        with suppress(OSError):
            while (data := self._server.recv(1 << 16)) and not self._lose_reply:
                self._client.sendall(data)
                if self._cut_reply:
                    break
        self._close()

    def _close(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _wait_ready(host: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _READY_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"http://{host}/minio/health/ready"):
            return
        time.sleep(0.05)
    raise RuntimeError(f"MinIO at {host} did not become ready (exit status {process.poll()})")
