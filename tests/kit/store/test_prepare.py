"""The Job that runs before the first service, as its own process against a real MinIO."""

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from luthier_kit.prepare import PrepareSettings, main, prepare
from luthier_kit.rpc import Unavailable, load
from luthier_kit.store import MARK_KEY, Endpoint
from tests.support.services import require_tool
from tests.support.stores import minio_server, open_store_at, unused_endpoint


def environment(endpoint: Endpoint, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "LUTHIER_STORE": "s3",
        "LUTHIER_S3_ENDPOINT": endpoint.host,
        "LUTHIER_S3_ACCESS_KEY": endpoint.access_key,
        "LUTHIER_S3_SECRET_KEY": endpoint.secret_key,
        "LUTHIER_BUCKET": "songs",
        **more,
    }


def run(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "luthier_kit.prepare"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_store_that_comes_up_late_is_waited_for_gets_its_bucket_and_the_second_run_changes_nothing(
    tmp_path: Path,
) -> None:
    require_tool("minio")
    endpoint = unused_endpoint()
    first: list[subprocess.CompletedProcess[str]] = []
    starting = threading.Thread(target=lambda: first.append(run(environment(endpoint))))
    starting.start()
    time.sleep(1)
    with minio_server(tmp_path, endpoint):
        starting.join()
        open_store_at(endpoint, "songs").objects.create("kept.json", b"{}")
        assert first[0].returncode == 0, first[0].stderr
        prepare(load(PrepareSettings, environment(endpoint)))
        assert sorted(open_store_at(endpoint, "songs").objects.keys("")) == ["kept.json", MARK_KEY]
        with pytest.raises(Unavailable) as refused:
            prepare(load(PrepareSettings, environment(endpoint, LUTHIER_S3_SECRET_KEY="hush-hush")))
    assert refused.value.reason == "STORE_CREDENTIALS_REFUSED"  # at once: waiting brings no other credentials
    assert endpoint.secret_key not in first[0].stderr + first[0].stdout


def test_each_attempt_is_logged_until_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("luthier_kit.store._s3.Endpoint", partial(Endpoint, retry_budget_s=0.2))
    monkeypatch.setattr("luthier_kit.prepare.PAUSE_S", 0.1)
    endpoint = unused_endpoint()
    settings = load(PrepareSettings, environment(endpoint, LUTHIER_PREPARE_PATIENCE_S="1"))
    caplog.set_level("INFO", "luthier_kit.prepare")
    with pytest.raises(Unavailable, match="does not answer"):
        prepare(settings)
    assert sum("STORE_UNAVAILABLE: " in message and "next attempt in" in message for message in caplog.messages) >= 1


def test_wrong_settings_are_exit_code_2_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("luthier_kit.prepare.configure_logging", lambda level: None)
    assert main({"LUTHIER_STORE": "s3", "LUTHIER_S3_ACCESS_KEY": "someone"}) == 2
    assert "LUTHIER_S3_SECRET_KEY is missing" in caplog.text
    assert main({"LUTHIER_PREPARE_PATIENCE_S": "-1"}) == 2
    assert "LUTHIER_PREPARE_PATIENCE_S must be between 0 and 86400" in caplog.text


def test_each_exit_code_is_what_the_readme_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("luthier_kit.prepare.configure_logging", lambda level: None)
    folder = {"LUTHIER_STORE_FOLDER": str(tmp_path / "store"), "LUTHIER_PREPARE_PATIENCE_S": "0"}
    assert main(folder) == 0
    assert main(folder) == 0
    (tmp_path / "file").write_text("")
    assert main({**folder, "LUTHIER_STORE_FOLDER": str(tmp_path / "file")}) == 1
    monkeypatch.setattr("luthier_kit.store._folder.FolderStore.create", lambda self, key, data: True)
    assert main(folder) == 3
