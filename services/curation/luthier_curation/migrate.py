"""`python -m luthier_curation.migrate` brings the schema of the curation database to what this version needs, and ends.

For a Job that runs before the service starts. Running it again changes nothing; several at once take turns. A database
that does not answer yet is waited for. Exit code 0: the schema is right; 1: it is not; 2: wrong settings.
"""

import logging
import sys
from dataclasses import dataclass

from alembic.util import CommandError
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from luthier_curation.database import cause, migrate, open_configured, schema_revision
from luthier_curation.settings import DatabaseSettings
from luthier_kit.rpc import SettingsError, configure_logging, load, retry_policy, setting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MigrationSettings(DatabaseSettings):
    """The database, and how long it may take to come up."""

    retry_budget_s: float = setting(
        "LUTHIER_PREPARE_PATIENCE_S", default=300.0, low=0, high=86400, help="seconds to wait for the database"
    )


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

    def not_ready(error: BaseException) -> bool:
        """A database that refuses or drops the connection; the reason is logged without the password."""
        if isinstance(error, OperationalError):
            log.warning("the database is not ready: %s", cause(error))
        return isinstance(error, OperationalError)

    try:
        retry_policy(settings.retry_budget_s, not_ready, first_s=0.5)(migrate, engine)
        log.info("the schema is at %s", schema_revision(engine))
        return 0
    except (SQLAlchemyError, CommandError, OSError) as error:  # CommandError: a schema newer than this version
        print(f"LUTHIER_DATABASE_URL: the database was not migrated: {cause(error)}", file=sys.stderr)
        return 1
    finally:
        engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
