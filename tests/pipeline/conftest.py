"""Stores in a folder and in MinIO."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier_kit.store import Endpoint, Store
from luthier_pipeline.retention import takedown
from tests.support.services import temp_store
from tests.support.stores import minio_server, open_store_at


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with minio_server(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "minio"])
def each_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    where = tmp_path if request.param == "folder" else request.getfixturevalue("minio")
    store = open_store_at(where, f"b{abs(hash(request.node.nodeid)):x}"[:30])
    store.objects.ensure_bucket(create=True)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temp_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def old_store(store: Store) -> Store:
    """A store as the code of commit 5aa81e1 left it, before stored documents were messages."""
    objects = json.loads(Path(__file__).with_name("old_store.json").read_text())["objects"]
    for key, text in objects.items():
        store.objects.create(key, text.encode())
    return store


@pytest.fixture(autouse=True)
def nothing_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takedown, "SETTLED_S", 0)
