"""Transactions: the domain's functions run inside one, are run again when the database says so, and fail clearly."""

import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from luthier_kit.errors import Unavailable

log = logging.getLogger(__name__)
Result = TypeVar("Result")
ATTEMPTS = 4
"""of a transaction that lost a race (two creators of one clip, a deadlock) before the caller is told to come back."""


class Repository:
    """The curation database, as reads and writes of whole transactions."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(read_only=True)

    def read(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` in a transaction that writes nothing. What it returns stays readable. Unavailable."""
        try:
            with Session(self._reader, expire_on_commit=False) as session:
                return work(session)
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise _unavailable(error) from error

    def write(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` and commit it, again from the start when a race was lost. Unavailable."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with Session(self.engine, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except (IntegrityError, OperationalError) as error:
                if attempt == ATTEMPTS or _is_lost(error):
                    raise _unavailable(error) from error
                log.info("transaction lost a race, trying again (%d of %d)", attempt, ATTEMPTS)
            except (InterfaceError, PoolTimeoutError) as error:
                raise _unavailable(error) from error
        raise AssertionError("unreachable")


def _is_lost(error: DBAPIError) -> bool:
    """Whether the database itself is away, or stayed locked for the whole busy timeout: no use in trying again now."""
    return error.connection_invalidated or "locked" in str(error.orig) or "connect" in str(error.orig)


def _unavailable(error: Exception) -> Unavailable:
    log.warning("database: %s", getattr(error, "orig", error))
    return Unavailable("the curation database does not answer; try again", reason="DATABASE_DOWN", retry_after_s=2.0)
