"""The start-up proof: of racing conditional creates exactly one wins, or the service refuses to run.

Everything Luthier promises about resume, caching and exactly-once rests on this one property, and some servers accept
the header and ignore it (rclone's `serve s3` does).
"""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from luthier_kit.artifacts.objects import ObjectStore
from luthier_kit.errors import FailedPrecondition

_RACERS = 4
_ROUNDS = 2


def prove_conditional_create(objects: ObjectStore) -> None:
    """Raise FailedPrecondition STORE_WITHOUT_CONDITIONAL_CREATE when more than one racing writer wins."""
    with ThreadPoolExecutor(_RACERS) as pool:
        for _ in range(_ROUNDS):
            _race(objects, pool)


def _race(objects: ObjectStore, pool: ThreadPoolExecutor) -> None:
    key = f"proofs/{uuid.uuid4().hex}.json"
    bodies = [f'{{"racer": "{uuid.uuid4().hex}"}}'.encode() for _ in range(_RACERS)]
    start = threading.Barrier(_RACERS)

    def create(body: bytes) -> bool:
        start.wait(timeout=60)
        return objects.create(key, body)

    won = list(pool.map(create, bodies))
    late = objects.create(key, b'{"racer": "late"}')
    stored = objects.get(key, 1024)
    objects.delete(key)
    if sum(won) != 1 or late or stored != bodies[won.index(True)]:
        raise FailedPrecondition(
            f"{objects!r} ignores If-None-Match: {sum(won) + late} of {_RACERS + 1} writers believe they created the "
            "same object. Luthier needs conditional creates and does not run without them.",
            reason="STORE_WITHOUT_CONDITIONAL_CREATE",
        )
