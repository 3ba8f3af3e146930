"""`python -m luthier_curation.migrate` brings the schema of the curation database to what this version needs, and ends.

For a Job that runs before the service starts. Running it again changes nothing; several at once take turns. A database
that does not answer yet is waited for. Exit code 0: the schema is right; 1: it is not; 2: wrong settings.
"""

import logging
import sys
import time
from dataclasses import dataclass

from alembic.util import CommandError
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from luthier_curation.database import cause, migrate, open_configured, schema_revision
from luthier_curation.settings import DatabaseSettings
from luthier_kit.settings import SettingsError, load, setting
from luthier_kit.telemetry import configure_logging

log = logging.getLogger(__name__)
LONGEST_WAIT_S = 5.0


@dataclass(frozen=True)
class MigrationSettings(DatabaseSettings):
    """The database, and how long it may take to come up."""

    patience_s: float = setting(
        "LUTHIER_PREPARE_PATIENCE_S", default=300.0, low=0, high=86400, help="seconds to wait for the database"
    )


def migrate_patiently(engine: Engine, patience_s: float) -> None:
    """Migrate; a database that refuses or drops the connection is asked again for `patience_s` seconds."""
    give_up, wait_s = time.monotonic() + patience_s, 0.5
    while True:
        try:
            return migrate(engine)
        except OperationalError as error:
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                raise
            log.warning("the database is not ready, trying for %.0f s more: %s", left_s, cause(error))
            time.sleep(min(wait_s, left_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def main() -> int:
    """The exit code."""
    configure_logging("INFO")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = load(MigrationSettings)
        engine = open_configured(settings.database_url)
    except SettingsError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 2
    try:
        migrate_patiently(engine, settings.patience_s)
        log.info("the schema is at %s", schema_revision(engine))
        return 0
    except (SQLAlchemyError, CommandError, OSError) as error:  # CommandError: a schema newer than this version
        print(f"LUTHIER_DATABASE_URL: the database was not migrated: {cause(error)}", file=sys.stderr)
        return 1
    finally:
        engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
