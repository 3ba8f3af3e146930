"""Both stores of the artifact contract: a folder, and S3 as a real MinIO speaks it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier_kit.store import Endpoint, Store
from tests.support.stores import OpenStore, minio_server, open_store_at


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with minio_server(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "minio"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Endpoint | Path:
    return tmp_path / "objects" if request.param == "folder" else request.getfixturevalue("minio")


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    return f"b{abs(hash(request.node.nodeid)):x}"


@pytest.fixture
def open_store(where: Endpoint | Path) -> OpenStore:
    """Opens a bucket as another process would."""
    return lambda bucket, allowed=frozenset(): open_store_at(where, bucket, allowed)


@pytest.fixture
def store(open_store: OpenStore, bucket: str) -> Store:
    opened = open_store(bucket)
    opened.objects.ensure_bucket(create=True)
    return opened
