"""Stores in a folder and in MinIO."""

import pytest

from luthier_kit.artifacts import Artifacts
from luthier_kit.artifacts.testing import minio_server, open_store_at
from luthier_kit.testing import temp_store
from luthier_pipeline.custody import takedown as taking_down


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    with minio_server(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "minio"])
def store(request, tmp_path) -> Artifacts:
    where = tmp_path if request.param == "folder" else request.getfixturevalue("minio")
    store = open_store_at(where, f"b{abs(hash(request.node.nodeid)):x}"[:30])
    store.objects.ensure_bucket(create=True)
    return store


@pytest.fixture
def folder_store(tmp_path):
    with temp_store(tmp_path / "store") as store:
        yield store


@pytest.fixture(autouse=True)
def nothing_in_flight(monkeypatch):
    monkeypatch.setattr(taking_down, "SETTLED_S", 0)
