"""A restore, drilled: the database and the bucket of one installation, copied, serve the same in another."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from luthier.curation.v1 import curation_pb2 as curation
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from luthier_kit.rpc import NotFound
from tests.conftest import Answer
from tests.system import System, started

pytestmark = pytest.mark.slow
SHARES = ("--validation-share", "0.25", "--test-share", "0")


def generate(system: System, tuned: Answer, name: str) -> dict[str, Any]:
    asked = ("A song to restore", "--model", tuned["model"], "--seconds", "2", "--steps", "2", "--seed", "12")
    return system.luthier("generate", *asked, "--out", str(system.folder / name))


def clips(system: System) -> list[curation.CuratedClip]:
    stub = CurationServiceStub(system.channel("curation"))
    return list(stub.ListClips(curation.ListClipsRequest(page_size=500)).clips)


@pytest.fixture(scope="module")
def made(system: System, tuned: Answer) -> dict[str, Any]:
    """Audio that was generated before the copy."""
    return generate(system, tuned, "before.wav")


@pytest.fixture(scope="module")
def taken_down(system: System) -> str:
    """Digest of a file that was taken down before the copy, its bytes still there."""
    ref = system.store.blobs.put_bytes("midi", b"of a composer who asked", "mid")
    system.store.blobs.take_down(ref.sha256, by="ann", reason="the composer asked")
    return ref.sha256


@pytest.fixture(scope="module")
def other(
    system: System, made: dict[str, Any], taken_down: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Another installation: first the database, then the bucket, so that the bucket has all that the database names."""
    folder = tmp_path_factory.mktemp("restored")
    home = folder / "home"
    home.mkdir()
    database, target = system.home / "curation.db", home / "curation.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    shutil.copytree(system.home / "store", home / "store")
    with started(folder, "curation", "inference") as restored:
        yield restored


def test_clips_with_their_verdicts_are_the_same(system: System, other: System) -> None:
    assert clips(other) == clips(system)


def test_a_data_set_exported_again_is_the_same_manifest(exported: Answer, other: System) -> None:
    again = other.luthier("export", "--collection", "way", *SHARES)
    assert (again["dataset"], again["manifest"]["sha256"]) == (exported["dataset"], exported["manifest"]["sha256"])


def test_the_same_request_is_answered_from_what_was_stored(made: dict[str, Any], other: System, tuned: Answer) -> None:
    again = generate(other, tuned, "after.wav")
    assert again["action"]["reused"] is True
    assert again["audio"]["sha256"] == made["audio"]["sha256"]
    assert (other.folder / "after.wav").read_bytes()


def test_a_model_has_the_same_lineage(system: System, other: System, tuned: Answer) -> None:
    assert other.luthier("lineage", tuned["model"]) == system.luthier("lineage", tuned["model"])


def test_a_takedown_is_still_honoured(other: System, taken_down: str) -> None:
    with pytest.raises(NotFound, match="taken down"):
        other.store.tombstones.check(other.store.objects, taken_down)


def test_the_audit_trail_is_there(system: System, other: System, tuned: Answer) -> None:
    entries = other.luthier("audit", "--subject", tuned["model"])["entries"]
    assert [entry["done"] for entry in entries] == ["register"]
    assert Path(other.home) != Path(system.home)
