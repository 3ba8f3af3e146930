"""What can go wrong between a service and S3: lost replies, cut connections, bad credentials, servers that are gone."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.rpc import Unavailable
from luthier_kit.store import Action, Endpoint, S3Store, Store, prove_conditional_create
from tests.support.stores import LossyProxy, minio_server, unused_endpoint

BUCKET = "luthier"
RENDER = Action("render", ["ab" * 32])


@pytest.fixture(scope="module", autouse=True)
def _bucket(minio: Endpoint) -> None:
    S3Store(minio, BUCKET).ensure_bucket(create=True)


@pytest.fixture
def proxy(minio: Endpoint) -> Iterator[LossyProxy]:
    proxy = LossyProxy(minio)
    yield proxy
    proxy.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"actions/tests/{request.node.name.split('[')[0]}.json"


# Lost replies


def test_a_commit_whose_reply_is_lost_is_our_own(minio: Endpoint, proxy: LossyProxy, key: str) -> None:
    proxy.lose_replies = 1
    assert S3Store(proxy.endpoint, BUCKET).create(key, b"mine")
    assert proxy.lose_replies == 0
    assert S3Store(minio, BUCKET).get(key, 10) == b"mine"


def test_a_lost_reply_does_not_hide_that_another_won(minio: Endpoint, proxy: LossyProxy, key: str) -> None:
    S3Store(minio, BUCKET).create(key, b"another writer's, and longer")
    proxy.lose_replies = 1
    assert not S3Store(proxy.endpoint, BUCKET).create(key, b"mine")


def test_a_run_whose_commit_loses_its_reply_commits_once(proxy: LossyProxy) -> None:
    store = Store(S3Store(proxy.endpoint, BUCKET))

    def compute() -> RenderSongResponse:
        proxy.lose_replies = 1
        return RenderSongResponse(seed=5)

    response, reused = store.actions.run(RENDER, RenderSongResponse, compute)
    assert (response.seed, reused) == (5, False)
    assert list(store.objects.keys("actions/render/")) == [RENDER.key(1)]


# Cut connections


def test_an_upload_that_is_cut_leaves_nothing_to_see(minio: Endpoint, proxy: LossyProxy) -> None:
    proxy.cut_uploads = 1000
    with pytest.raises(Unavailable):
        Store(S3Store(replace(proxy.endpoint, retry_budget_s=1), BUCKET)).blobs.put_bytes(
            "mixes", b"cut" * 500_000, "flac"
        )
    assert not [key for key in S3Store(minio, BUCKET).keys("mixes/") if "cut" in key]
    assert list(S3Store(minio, BUCKET).keys("mixes/")) == []


@pytest.mark.parametrize("size_bytes", [1_000_000, 20_000_000])
def test_an_upload_that_is_cut_once_is_sent_again(proxy: LossyProxy, size_bytes: int) -> None:
    proxy.cut_uploads = 1
    store = Store(S3Store(proxy.endpoint, BUCKET))
    ref = store.blobs.put_bytes("mixes", b"x" * size_bytes, "flac")
    assert proxy.cut_uploads == 0
    assert len(store.blobs.read(ref)) == size_bytes


def test_a_download_that_is_cut_goes_on_where_it_stopped(proxy: LossyProxy, tmp_path: Path) -> None:
    store = Store(S3Store(proxy.endpoint, BUCKET))
    ref = store.blobs.put_bytes("mixes", b"y" * 3_000_000, "flac")
    proxy.cut_downloads = 2
    assert store.blobs.fetch(ref, tmp_path).stat().st_size == 3_000_000
    assert proxy.cut_downloads == 0


# Credentials


@pytest.mark.parametrize("wrong", [{"secret_key": "not-the-secret"}, {"access_key": "nobody"}])
def test_wrong_credentials_are_said_at_once_and_without_the_secret(minio: Endpoint, wrong: dict[str, str]) -> None:
    endpoint = replace(minio, **wrong)  # type: ignore[arg-type]
    objects, began = S3Store(endpoint, BUCKET), time.monotonic()
    operations: list[Callable[[], object]] = [
        lambda: objects.create("actions/tests/x.json", b"x"),
        lambda: objects.get("actions/tests/x.json", 10),
        lambda: objects.size_bytes("actions/tests/x.json"),
        lambda: list(objects.keys("actions/")),
        lambda: objects.ensure_bucket(create=True),
    ]
    for operation in operations:
        with pytest.raises(Unavailable, match="refused this service's credentials") as caught:
            operation()
        assert caught.value.reason == "STORE_CREDENTIALS_REFUSED"
        assert endpoint.secret_key not in f"{caught.value!r} {caught.value.metadata} {objects!r} {endpoint!r}"
    assert time.monotonic() - began < endpoint.retry_budget_s


def test_neither_secrets_nor_presigned_urls_are_logged(minio: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    objects = S3Store(minio, BUCKET)
    prove_conditional_create(objects)
    with pytest.raises(Unavailable) as caught:
        S3Store(replace(minio, host=unused_endpoint().host, retry_budget_s=0.5), BUCKET).create(
            "actions/tests/x.json", b"x"
        )
    text = caplog.text + str(caught.value) + repr(caught.value.__cause__)
    assert minio.secret_key not in text
    assert "X-Amz" not in text


# Servers that are gone


def test_a_refused_endpoint_is_given_up_within_bounds() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer") as caught:
        S3Store(unused_endpoint(retry_budget_s=1), BUCKET).get("actions/tests/x.json", 10)
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert time.monotonic() - began < 2


def test_an_endpoint_that_comes_back_is_found_again(tmp_path: Path) -> None:
    endpoint = unused_endpoint(retry_budget_s=15)
    store = Store(S3Store(endpoint, BUCKET))
    with minio_server(tmp_path, endpoint):
        store.objects.ensure_bucket(create=True)
        ref = store.blobs.put_bytes("mixes", b"music", "flac")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(store.blobs.read(ref)))
    reader.start()
    time.sleep(0.5)
    with minio_server(tmp_path, endpoint):
        reader.join(timeout=20)
    assert found == [b"music"]


def test_a_black_hole_is_given_up_within_bounds() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as hole:
        endpoint = replace(unused_endpoint(retry_budget_s=2), host=f"127.0.0.1:{hole.getsockname()[1]}")
        store = Store(S3Store(endpoint, BUCKET))
        for operation in (
            lambda: store.blobs.put_bytes("mixes", b"x" * 5_000_000, "flac"),
            lambda: store.series(ArtifactRef, "runs/x").latest(),
        ):
            began = time.monotonic()
            with pytest.raises(Unavailable, match=f"object store at {endpoint.host} does not answer"):
                operation()
            assert time.monotonic() - began < 3.5


def test_the_budget_is_fifteen_seconds_by_default() -> None:
    assert Endpoint("127.0.0.1:9000", "a", "b").retry_budget_s == 15
