"""The checks of an object store against stores that hold, and against ones that do not, each in one way."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from luthier_kit.store import Endpoint, FolderStore, ObjectStore, S3Store
from luthier_kit.store._objects import OpenSource
from luthier_pipeline.prove_store.checks import CHECKS, PAGE, Asked, Check, checks
from luthier_pipeline.prove_store.losing import LosesReplies


def asked_of(open_client: Callable[[int], ObjectStore], losing: Callable[[int], ObjectStore] | None = None) -> Asked:
    return Asked(open_client, losing, "proofs/test/", writers=8, rounds=2, large_bytes=9 << 20)


def faulty(found: list[Check]) -> list[str]:
    return [check.name for check in found if check.faults]


def test_a_folder_holds(tmp_path: Path) -> None:
    FolderStore(tmp_path, "luthier").ensure_bucket(create=True)

    found = list(checks(asked_of(lambda _: FolderStore(tmp_path, "luthier"))))

    assert faulty(found) == []
    assert [check.left_out for check in found if not check.tries] == ["no reply of a folder can be lost"] * 2


def test_minio_holds(minio: Endpoint) -> None:
    S3Store(minio, "proven").ensure_bucket(create=True)

    found = list(checks(asked_of(lambda _: S3Store(minio, "proven"), lambda _: S3Store(minio, "proven", LosesReplies))))

    assert {check.name: check.faults for check in found if check.faults} == {}
    assert all(check.tries for check in found)


class LastWriterWins(FolderStore):
    def create(self, key: str, data: bytes) -> bool:
        self.put(key, lambda: io.BytesIO(data), len(data), "application/json")
        return True


class HalfIsSeen(FolderStore):
    def put(self, key: str, source: OpenSource, size_bytes: int, media_type: str) -> None:
        if size_bytes > PAGE:
            with source() as reader:
                half = reader.read(size_bytes // 2)
            super().put(key, lambda: io.BytesIO(half), len(half), media_type)
        super().put(key, source, size_bytes, media_type)


class ReadsWhatWas(FolderStore):
    """What was read last is read again, also after it was written anew."""

    read: dict[str, bytes | None]

    def get(self, key: str, max_bytes: int) -> bytes | None:
        return CACHE.setdefault(key, super().get(key, max_bytes))


CACHE: dict[str, bytes | None] = {}


class ListsOnePage(FolderStore):
    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(super().keys(prefix))[:PAGE])


class DropsTheLastByte(FolderStore):
    def put(self, key: str, source: OpenSource, size_bytes: int, media_type: str) -> None:
        with source() as reader:
            body = reader.read(max(size_bytes - 1, 0))
        super().put(key, lambda: io.BytesIO(body), len(body), media_type)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (LastWriterWins, "one of many writers wins"),
        (HalfIsSeen, "objects in parts are whole or not there"),
        (HalfIsSeen, "an upload that breaks off leaves nothing"),
        (ReadsWhatWas, "what was overwritten is read anew, elsewhere"),
        (ListsOnePage, "listings are whole"),
        (DropsTheLastByte, "objects of every size come back"),
    ],
)
def test_a_store_that_does_not_hold_is_found_out(kind: type[FolderStore], name: str, tmp_path: Path) -> None:
    CACHE.clear()
    kind(tmp_path, "luthier").ensure_bucket(create=True)
    asked = asked_of(lambda _: kind(tmp_path, "luthier"))
    run = next(run for each, run, _ in CHECKS if each == name)

    assert [fault for fault in run(asked, asked.open) if fault]
