"""What can go wrong between a service and S3: lost replies, cut connections, bad credentials, servers that are gone."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.rpc import LuthierError, Unavailable, status_of
from luthier_kit.store import MARK_KEY, Action, Endpoint, S3Store, Store, prove_conditional_create
from luthier_kit.store._s3 import MARK_FRESH_S
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


def test_callers_of_a_service_are_told_no_host_of_its_store(minio: Endpoint) -> None:
    gone = unused_endpoint(retry_budget_s=0.2)
    found: list[LuthierError] = []
    for objects in (S3Store(gone, BUCKET), S3Store(replace(minio, secret_key="wrong"), BUCKET), S3Store(minio, "none")):
        host = objects.endpoint.host
        with pytest.raises(Unavailable, match=f"object store at {host}") as failed:
            objects.get("actions/tests/x.json", 10)
        found.append(failed.value)
        assert host not in status_of(failed.value, "rendering").message
        assert "the artifact store" in status_of(failed.value, "rendering").message
    assert [error.reason for error in found] == [
        "STORE_UNAVAILABLE", "STORE_CREDENTIALS_REFUSED", "STORE_BUCKET_MISSING",
    ]  # fmt: skip


# Buckets that are lost or replaced


@pytest.fixture
def proven(minio: Endpoint) -> Iterator[Store]:
    """A store of a bucket of its own, as a service holds it."""
    store = Store(S3Store(minio, "proven"))
    store.prove(create_bucket=True)
    yield store
    empty(S3Store(minio, "proven"))


def empty(objects: S3Store) -> None:
    """Deletes the bucket with all that is in it."""
    for key in list(objects.keys("")):
        objects.delete(key)
    objects._client.remove_bucket(objects.bucket)


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("", "STORE_BUCKET_MISSING"),
        ("an empty one", "STORE_MARK_MISSING"),
        ("another proven one", "STORE_MARK_MISSING"),
    ],
    ids=["lost", "replaced by an empty one", "replaced by another proven one"],
)
def test_a_bucket_that_is_lost_or_replaced_while_a_service_runs_is_a_store_that_is_down(
    minio: Endpoint, proven: Store, then: str, reason: str
) -> None:
    ref = proven.blobs.put_bytes("mixes", b"music", "flac")
    other = S3Store(minio, "proven")
    empty(other)
    if then:
        other.ensure_bucket(create=True)
    if then == "another proven one":
        Store(other).prove(create_bucket=False)
    time.sleep(MARK_FRESH_S)
    for ask in (
        lambda: proven.blobs.put_bytes("mixes", b"more music", "flac"),
        lambda: proven.objects.create("actions/tests/x.json", b"x"),
        lambda: proven.objects.get("actions/tests/x.json", 10),
        lambda: proven.blobs.exists(ref),
        lambda: list(proven.objects.keys("mixes/")),
        lambda: proven.names("models/"),
        lambda: proven.series(ArtifactRef, "runs/x").latest(),
    ):
        with pytest.raises(Unavailable) as refused:
            ask()
        assert refused.value.reason == reason
        assert minio.host not in status_of(refused.value, "rendering").message
    if not then:
        other.ensure_bucket(create=True)
    assert [key for key in other.keys("") if key != MARK_KEY] == [], "nothing was written"


def test_a_bucket_that_comes_back_with_its_mark_is_the_store_again(minio: Endpoint, proven: Store) -> None:
    other = S3Store(minio, "proven")
    mark = other.get(MARK_KEY, 1024) or b""
    other.delete(MARK_KEY)
    time.sleep(MARK_FRESH_S)
    with pytest.raises(Unavailable):
        proven.names("models/")
    assert other.create(MARK_KEY, mark)
    assert proven.names("models/") == []


def test_the_mark_is_asked_for_once_a_second_at_most(minio: Endpoint, proven: Store) -> None:
    asked: list[str] = []
    client = proven.objects._client  # type: ignore[attr-defined]
    get_object = client.get_object

    def counted(bucket: str, key: str, **more: Any) -> Any:
        asked.append(key)
        return get_object(bucket, key, **more)

    client.get_object = counted
    began = time.monotonic()
    for number in range(50):
        proven.objects.create(f"actions/tests/{number}.json", b"x")
    assert asked.count(MARK_KEY) <= 1 + (time.monotonic() - began) / MARK_FRESH_S
