"""`python -m luthier_curation.migrate`: to the newest schema, once, waiting for a database that is not up yet."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from luthier_curation import database
from luthier_curation.curation import Curation
from luthier_curation.database import Repository, head_revision, migrate, open_engine, schema_revision
from luthier_kit.store import FolderStore, Store

from .postgres import free_port, own_database, running_postgres


def begin(url: str, retry_budget_s: float = 60, **more: str) -> subprocess.Popen[str]:
    """The command as a Job runs it."""
    environ = {"PATH": os.environ["PATH"], "LUTHIER_PREPARE_PATIENCE_S": str(retry_budget_s), **more}
    if url:
        environ["LUTHIER_DATABASE_URL"] = url
    command = [sys.executable, "-m", "luthier_curation.migrate"]
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what was said."""
    _, said = process.communicate(timeout=90)
    return process.returncode, said


def revision(url: str) -> str | None:
    engine = open_engine(url)
    try:
        return schema_revision(engine)
    finally:
        engine.dispose()


def test_jobs_that_run_at_once_and_again_leave_one_newest_schema(postgres: str) -> None:
    with own_database(postgres) as url:
        at_once = [begin(url) for _ in range(2)]
        assert [finish(job)[0] for job in at_once] == [0, 0]
        assert finish(begin(url))[0] == 0
        assert revision(url) == head_revision()


def test_the_url_comes_from_a_file(postgres: str, tmp_path: Path) -> None:
    with own_database(postgres) as url:
        (tmp_path / "url").write_text(f"{url}\n")
        assert finish(begin("", LUTHIER_DATABASE_URL_FILE=str(tmp_path / "url")))[0] == 0
        assert revision(url) == head_revision()


def test_a_database_that_comes_up_later_is_waited_for() -> None:
    port = free_port()
    job = begin(f"postgresql+psycopg://luthier@127.0.0.1:{port}/postgres")
    waited = threading.Event()
    said: list[str] = []

    def listen() -> None:
        assert job.stderr
        for line in job.stderr:
            said.append(line)
            waited.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert waited.wait(30)
    with running_postgres(port) as url:
        assert job.wait(60) == 0
        assert revision(url) == head_revision()
    listener.join()
    assert "not ready" in said[0]


def test_a_database_that_never_comes_ends_the_job_and_keeps_the_password() -> None:
    code, said = finish(begin(f"postgresql+psycopg://luthier:secret@127.0.0.1:{free_port()}/none", retry_budget_s=0.2))
    assert code == 1
    assert "LUTHIER_DATABASE_URL" in said
    assert "secret" not in said


@pytest.mark.parametrize("url", ["nonsense", "mongodb://user:secret@host/name"])
def test_a_url_of_no_database_is_a_wrong_setting(url: str) -> None:
    code, said = finish(begin(url))
    assert code == 2
    assert "LUTHIER_DATABASE_URL" in said
    assert "secret" not in said


def test_a_skip_of_before_becomes_that_of_who_skipped(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/curation.sqlite3"
    engine = open_engine(url)
    with engine.begin() as connection:
        config = database._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0010")
    texts = {"source": "{}", "audio": "{}", "facts": "{}", "tags": "[]", "prompts": "[]", "lineage": "{}"}
    words = {
        "incoming": "{}",
        "edited_fields": "[]",
        "verdict": "open",
        "reviewer": "",
        "remark": "",
        "instruments": "",
        "search": "",
    }
    numbers = {"start_ms": 0, "end_ms": 1, "revision": 2, "automatic": 0, "checked": 0, "duration_s": 1, "derived": 1}
    named = {"clip_id": "clip-1", "collection": "demo", "song_fingerprint": "f", "sort_key": "k"}
    skipped = {"updated_at_ms": 7, "skipped_at_ms": 7, "doubt": 1.5, "priority": -7}
    new = {**named, **texts, **words, **numbers, **skipped}
    line = {
        "clip_id": "clip-1", "revision": 2, "batch_id": "b", "kind": "skipped", "who": "Ada", "automatic": 0,
        "at_ms": 7, "before": '{"skipped_at_ms": 0}', "after": '{"skipped_at_ms": 7}',
    }  # fmt: skip
    with engine.begin() as connection:
        for table, values in (("clips", new), ("changes", line)):
            names = ", ".join(values)
            places = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)
    migrate(engine)
    curation = Curation(Repository(engine), Store(FolderStore(tmp_path, "luthier")))
    row = curation.clip("clip-1")
    assert ([skip.reviewer for skip in row.skips], row.priority) == (["Ada"], 1.5)
    curation.undo("b", "Ada")
    assert curation.clip("clip-1").skips == []
    engine.dispose()


def test_a_schema_newer_than_this_version_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/curation.sqlite3"
    assert finish(begin(url))[0] == 0
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    code, said = finish(begin(url))
    assert code == 1
    assert "9999" in said
