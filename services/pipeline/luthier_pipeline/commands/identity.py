"""Request ids of long runs: the same arguments are the same run, unless that failed; then it is the next attempt."""

import hashlib
import json
from collections.abc import Callable
from itertools import count
from typing import Any

from luthier_kit.artifacts import Artifacts
from luthier_pipeline.commands.watching import state_of
from luthier_pipeline.resources import plain

ENDED_IN_VAIN = ("FAILED", "CANCELLED")


def begin(request: Any, store: Artifacts, models: list[str], create: Callable[[Any], Any]) -> Any:
    """Creates the run, or finds it. `models` are the names in the request; what they stand for now is part of the id.

    A run that ended in vain is tried again under the next id. A request that names its id is taken as it is.
    """
    if request.request_id:
        return create(request)
    digest = hashlib.sha256(json.dumps([plain(request), _versions(store, models)], sort_keys=True).encode()).hexdigest()
    for attempt in count(1):
        request.request_id = digest if attempt == 1 else f"{digest}-{attempt}"
        run = create(request)
        if not state_of(run).endswith(ENDED_IN_VAIN):
            return run
    raise AssertionError


def _versions(store: Artifacts, models: list[str]) -> dict[str, int]:
    """The newest version of each name that does not say one."""
    found = {}
    for name in (name for name in models if name and "@" not in name and ":" not in name):
        newest = store.latest(f"models/{name}")
        found[name] = newest[0] if newest else 0
    return found
