"""Servers that must be refused, and settings that must be right, before a service runs on S3."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from luthier_kit.rpc import FailedPrecondition, SettingsError, Unavailable, load
from luthier_kit.store import Endpoint, S3Store, StoreSettings, open_store, prove_conditional_create
from tests.support.stores import unused_endpoint

BUCKET = "luthier"


class _Careless(BaseHTTPRequestHandler):
    """S3 as far as single objects go; like rclone's `serve s3`, it accepts `If-None-Match` and ignores it."""

    objects: ClassVar[dict[str, bytes]] = {}
    conflicts: ClassVar[int] = 0
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if _Careless.conflicts:
            _Careless.conflicts -= 1
            self._answer(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
            return
        self.objects[self.path.split("?")[0]] = data
        self._answer(200)

    def do_GET(self) -> None:
        data = self.objects.get(self.path.split("?")[0])
        self._answer(*((200, data) if data is not None else (404, b"<Error><Code>NoSuchKey</Code></Error>")))

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        self.objects.pop(self.path.split("?")[0], None)
        self._answer(204)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def careless() -> Iterator[Endpoint]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Careless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield replace(unused_endpoint(), host=f"127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_server_that_ignores_conditions_is_refused(careless: Endpoint) -> None:
    with pytest.raises(FailedPrecondition, match="ignores If-None-Match") as caught:
        prove_conditional_create(S3Store(careless, BUCKET))
    assert caught.value.reason == "STORE_WITHOUT_CONDITIONAL_CREATE"


def test_a_conflict_means_try_again_and_is_named_in_the_log(
    careless: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "luthier_kit.store")
    _Careless.conflicts = 2
    assert S3Store(careless, BUCKET).create("actions/tests/conflict.json", b"mine")
    assert _Careless.conflicts == 0
    assert [line.split("; ")[0] for line in caplog.messages] == ["S3 error ConditionalRequestConflict"] * 2


def settings_of(endpoint: Endpoint, bucket: str, *, create_bucket: bool) -> StoreSettings:
    return StoreSettings(
        store="s3",
        s3_endpoint=endpoint.host,
        s3_access_key=endpoint.access_key,
        s3_secret_key=endpoint.secret_key,
        bucket=bucket,
        create_bucket=create_bucket,
    )


def test_settings_open_a_proven_store(minio: Endpoint) -> None:
    with pytest.raises(Unavailable, match="no bucket 'not-there'"):
        open_store(settings_of(minio, "not-there", create_bucket=False))
    store = open_store(settings_of(minio, "made", create_bucket=True))
    assert store.blobs.read(store.blobs.put_bytes("mixes", b"music", "flac")) == b"music"


def test_missing_settings_are_named_all_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)LUTHIER_S3_ACCESS_KEY.*LUTHIER_S3_SECRET_KEY.*host:port"):
        load(StoreSettings, {"LUTHIER_STORE": "s3", "LUTHIER_S3_ENDPOINT": "http://minio:9000"})
