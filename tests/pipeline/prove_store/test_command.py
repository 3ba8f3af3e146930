"""`luthier prove-store` as an operator types it."""

import json
from pathlib import Path

import pytest

from luthier_kit.store import Endpoint, FolderStore, S3Store
from tests.pipeline.fakes import luthier

QUICK = ["prove-store", "--writers", "4", "--rounds", "1", "--large-mib", "1", "--json"]


def test_a_store_that_holds_is_left_as_it_was(minio: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LUTHIER_STORE": "s3",
        "LUTHIER_S3_ENDPOINT": minio.host,
        "LUTHIER_S3_ACCESS_KEY": minio.access_key,
        "LUTHIER_S3_SECRET_KEY": minio.secret_key,
    }.items():
        monkeypatch.setenv(name, value)
    two = ["--endpoint", minio.host, "--endpoint", minio.host.replace("127.0.0.1", "localhost")]

    done = luthier([*QUICK, *two, "--bucket", "proven-by-command", "--create-bucket", "--times"])

    answer = json.loads(done.out)
    assert (done.code, [check["faults"] for check in answer["checks"]]) == (0, [[]] * 9)
    assert {figure["unit"] for figure in answer["times"]} == {"ms", "MiB/s"}
    assert list(S3Store(minio, "proven-by-command").keys("proofs/")) == []


def test_a_store_that_does_not_hold_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_STORE_FOLDER", str(tmp_path))
    monkeypatch.setattr(FolderStore, "create", lambda *_: True)

    done = luthier(QUICK[:-1])

    assert done.code == 1
    assert "3 of 9 did not hold: do not use this store" in done.out


@pytest.mark.parametrize("arguments", [["--endpoint", "127.0.0.1:9"], ["--writers", "1"]])
def test_wrong_usage_is_named(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_STORE_FOLDER", str(tmp_path))
    done = luthier(["prove-store", *arguments])
    assert done.code == 2
    assert arguments[0].strip("-") in done.err
