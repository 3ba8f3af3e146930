"""`python -m luthier_kit.prepare`: makes the store ready before the first service starts; a second run changes nothing.

Creates the bucket where it is missing and proves that the store keeps conditional creates. A store that does not answer
yet is waited for. Exit codes: 0 = ready; 1 = it did not become ready in time, or refuses the credentials; 2 = a setting
is missing or wrong; 3 = the store answers but is not one that Luthier can use.
"""

import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from luthier_kit.rpc import LuthierError, SettingsError, Unavailable, configure_logging, load, retry_policy, setting
from luthier_kit.store import StoreSettings, open_store

log = logging.getLogger("luthier_kit.prepare")
PAUSE_S = 2.0  # between attempts, each of which tries for 15 s itself
WORTH_WAITING = {"STORE_UNAVAILABLE", "STORE_BUCKET_MISSING"}  # new credentials come with a new process, not with time


@dataclass(frozen=True)
class PrepareSettings(StoreSettings):
    """Beside where the store is."""

    retry_budget_s: float = setting(
        "LUTHIER_PREPARE_PATIENCE_S", default=300.0, low=0, high=86400, help="how long to wait for the store"
    )


def prepare(settings: PrepareSettings) -> None:
    """Returns when the bucket is there and proven. Raises what `open_store` raises."""

    def worth_waiting(error: BaseException) -> bool:
        return isinstance(error, Unavailable) and error.reason in WORTH_WAITING

    policy = retry_policy(settings.retry_budget_s, worth_waiting, first_s=PAUSE_S, longest_s=PAUSE_S, log=log)
    policy(open_store, dataclasses.replace(settings, create_bucket=True))


def main(environ: Mapping[str, str] = os.environ) -> int:
    """The exit code."""
    configure_logging("INFO")
    logging.getLogger("luthier_kit.store").setLevel(logging.WARNING)  # one line an attempt is enough
    try:
        settings = load(PrepareSettings, environ)
        prepare(settings)
    except SettingsError as error:
        log.error("cannot prepare the store: %s", error)
        return 2
    except LuthierError as error:
        log.error("cannot prepare the store: %s", error, extra={"fields": {"reason": error.reason}})
        return 1 if isinstance(error, Unavailable) else 3
    log.info("the store is ready", extra={"fields": {"store": settings.store, "bucket": settings.bucket}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
