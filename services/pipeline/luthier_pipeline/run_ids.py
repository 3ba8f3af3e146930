"""Trainings and evaluations by how their ids begin."""

import re
from typing import Final

from luthier_kit.rpc import NotFound
from luthier_kit.store import Store
from luthier_pipeline.console import UsageError

RUN_ID: Final = re.compile(r"(training|evaluation)-[0-9a-f]{4,}")
"""An id, or how it begins: long enough that nobody names the only run there is by a slip of the finger."""


def identity_of(store: Store, run_id: str) -> str:
    """The id of the run whose id begins so. Raises UsageError when none may, or several do, NotFound when none does."""
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(f"ID {run_id!r} must be training- or evaluation- and four digits of the id, or more of it")
    found = [name for name in store.names("runs/") if name.startswith(run_id)]
    if not found:
        raise NotFound(f"no training or evaluation {run_id!r}; luthier status lists them", reason="RUN_NOT_FOUND")
    if len(found) > 1:
        raise UsageError(f"ID {run_id} is the beginning of {len(found)}: {', '.join(found[:4])}")
    return found[0]
