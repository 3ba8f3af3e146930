"""The curation database: an engine for SQLite (embedded default) or PostgreSQL, its migrations and transactions.

SQLite runs in WAL mode, so readers never wait for the writer, with a busy timeout for the writer's turn; every
transaction that will write begins IMMEDIATE, because a deferred one that upgrades fails at once instead of waiting.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from luthier_curation import clips, terms
from luthier_kit.rpc import SettingsError, Unavailable, retry_policy

log = logging.getLogger(__name__)
Result = TypeVar("Result")

SQLITE_BUSY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10
DRIVER = "postgresql+psycopg"
RANDOM_PAGE_COST = 1.1
"""Of lists: what they read lies in memory or on a disk without a head. PostgreSQL's 4 makes it read all clips
instead."""
MIGRATION_LOCK = 0x4C757468  # PostgreSQL advisory lock: "Luth"
DERIVED_AT_ONCE = 500  # clips in a transaction
MIGRATIONS = Path(__file__).parent / "migrations"
RACE_BUDGET_S = 2.0  # for a transaction that lost a race, before the caller is told to come back


def is_sqlite(url: str) -> bool:
    """Whether this database URL is the embedded one."""
    return make_url(url).get_backend_name() == "sqlite"


def open_engine(url: str) -> Engine:
    """An engine with the pragmas and pool that the service relies on. Nothing is created but SQLite's folder.

    PostgreSQL plans each statement for its values: a plan for any value reads a filter's every match, be it 50,000.
    """
    if not is_sqlite(url):
        return create_engine(
            _postgresql(url), connect_args={"prepare_threshold": None}, pool_pre_ping=True, pool_size=8,
            max_overflow=16, pool_timeout=20,
        )  # fmt: skip
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S}, pool_size=8, max_overflow=16)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _postgresql(text: str) -> URL:
    """The URL with our driver, where it names none, and a bound on connecting, where it has none."""
    url = make_url(text)
    driver = {"postgres": DRIVER, "postgresql": DRIVER}.get(url.drivername, url.drivername)
    return url.set(drivername=driver, query={"connect_timeout": str(CONNECT_TIMEOUT_S), **url.query})


def open_configured(url: str) -> Engine:
    """`open_engine` of what the operator wrote; SettingsError, without the password, when it cannot be a database."""
    try:
        return open_engine(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise SettingsError("LUTHIER_DATABASE_URL must be a sqlite or postgresql+psycopg URL") from error
    except OSError as error:
        raise SettingsError(f"LUTHIER_DATABASE_URL: the database cannot be used: {cause(error)}") from error


def cause(error: Exception) -> str:
    """What the driver said, in one line."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def _configure_sqlite(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # SQLAlchemy begins, not the driver
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    writes = not connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def head_revision() -> str | None:
    """The migration that this version of the code needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; replicas that start together take turns."""
    config = _config()
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    derive_missing(Repository(engine))


def derive_missing(repository: "Repository") -> None:
    """Derive what lists are sorted and searched by for clips that another version wrote, a transaction for each
    chunk."""
    last = ""
    while last := repository.write(partial(clips.derive_again, after=last, size=DERIVED_AT_ONCE)):
        log.info("derived what lists are sorted and searched by, up to clip %s", last)


def schema_revision(engine: Engine) -> str | None:
    """The migration the database is at; None for an empty one. Errors of the connection pass through."""
    try:
        with engine.connect().execution_options(read_only=True) as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError:
        with engine.connect().execution_options(read_only=True) as connection:
            connection.execute(text("SELECT 1"))  # is it the table that is missing, or the database?
        return None


class Repository:
    """The curation database, as reads and writes of whole transactions."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(read_only=True)

    def read(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` in a transaction that writes nothing. What it returns stays readable. Unavailable."""
        try:
            with Session(self._reader, expire_on_commit=False) as session:
                if self._reader.dialect.name == "postgresql":
                    session.execute(text(f"SET LOCAL random_page_cost = {RANDOM_PAGE_COST}"))
                return work(session)
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise _unavailable(error) from error

    def write(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` and commit it, again from the start when a race was lost. Unavailable."""

        def once() -> Result:
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                result = work(session)
                terms.settle(session)
                return result

        try:
            return retry_policy(RACE_BUDGET_S, _lost_a_race, first_s=0.01, longest_s=0.2, log=log)(once)
        except (IntegrityError, OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise _unavailable(error) from error


def _lost_a_race(error: BaseException) -> bool:
    """Two creators of one clip, a deadlock. Not: a database that is away, or stayed locked for its busy timeout."""
    if not isinstance(error, IntegrityError | OperationalError):
        return False
    return not (error.connection_invalidated or "locked" in str(error.orig) or "connect" in str(error.orig))


def _unavailable(error: Exception) -> Unavailable:
    log.warning("database: %s", getattr(error, "orig", error))
    return Unavailable("the curation database does not answer; try again", reason="DATABASE_DOWN", retry_after_s=2.0)
