"""The database: migrations and tables agree, SQLite is set up for many threads, failures are clear."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, Table, select, text, update

from luthier.curation.v1.curation_pb2 import ListClipsRequest
from luthier_curation.__main__ import open_database
from luthier_curation.clips import Identity
from luthier_curation.curation import Curation
from luthier_curation.database import MIGRATIONS, Repository, head_revision, migrate, open_engine, schema_revision
from luthier_curation.settings import CurationSettings
from luthier_curation.tables import Base
from luthier_kit.rpc import SettingsError, Unavailable
from luthier_kit.store import Store

from .builders import clip

SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def test_the_migrations_make_the_tables_that_the_code_has(engine: Engine) -> None:
    def of_the_code(name: str | None, kind: str, _parents: object) -> bool:
        return not (kind == "table" and name and name.startswith("clip_terms"))  # each database has its own kind

    with engine.connect() as connection:
        opened = MigrationContext.configure(connection, opts={"include_name": of_the_code})
        differences = compare_metadata(opened, Base.metadata)
    assert differences == []


def test_a_clip_that_named_its_subset_before_there_was_a_column_moves_to_the_id_that_it_has_now(
    curation: Curation,
) -> None:
    [name], *_ = curation.upsert("demo", [clip(curation.store)])
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with curation.repository.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        clips = Table("clips", MetaData(), autoload_with=connection)
        source: dict[str, object] = connection.scalars(select(clips.c.source)).one()
        connection.execute(update(clips).values(source={**source, "subset": "external"}))
    migrate(curation.repository.engine)
    [row] = curation.page(ListClipsRequest(), 10).clips
    assert (row.subset, row.clip_id) == ("external", Identity.of("demo", row.source).clip_id)
    assert row.clip_id != name
    assert [change.kind for change in curation.history(row.clip_id)] == ["created"]


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    assert schema_revision(engine) == head_revision()


@SQLITE
def test_readers_do_not_wait_for_the_writer(curation: Curation, engine: Engine) -> None:
    with engine.begin() as writer:
        writer.execute(text("UPDATE clips SET remark = 'being written'"))
        assert curation.collections() == []
        assert writer.execute(text("PRAGMA journal_mode")).scalar() == "wal"


@SQLITE
def test_what_was_written_survives_a_restart(curation: Curation, engine: Engine, store: Store) -> None:
    ids, *_ = curation.upsert("demo", [clip(store)])
    engine.dispose()
    again = Curation(Repository(open_engine(str(engine.url))), store)
    assert again.clip(ids[0]).revision == 1


def test_a_database_that_is_away_is_unavailable(store: Store) -> None:
    away = open_engine("postgresql+psycopg://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as refused:
        Curation(Repository(away), store).collections()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["nonsense", "mongodb://host/name", "postgresql+psycopg://u:secret@127.0.0.1:1/none"])
def test_a_start_that_cannot_work_says_why_and_keeps_the_password(url: str) -> None:
    with pytest.raises(SettingsError, match="LUTHIER_DATABASE_URL") as refused:
        open_database(CurationSettings(database_url=url))
    assert "secret" not in str(refused.value)


def test_an_old_schema_is_refused_where_migrating_is_off(tmp_path: Path) -> None:
    settings = CurationSettings(database_url=f"sqlite:///{tmp_path}/new.sqlite3", migrate="0")
    with pytest.raises(SettingsError, match="LUTHIER_MIGRATE=1"):
        open_database(settings)
    assert "secret" not in repr(CurationSettings(database_url="postgresql+psycopg://u:secret@host/name"))


def test_the_embedded_database_makes_itself(tmp_path: Path) -> None:
    engine = open_database(CurationSettings(database_url=f"sqlite:///{tmp_path}/a/b/new.sqlite3"))
    assert schema_revision(engine) == head_revision()
