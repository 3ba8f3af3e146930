"""Takedowns: `tombstones/<sha256>.json` means that these bytes may be neither read nor used as an input any more.

Every reader refuses them within `FRESH_S` seconds of the takedown; `luthier gc` deletes the bytes later.
"""

import time

from luthier.store.v1.store_pb2 import Tombstone
from luthier_kit.rpc import NotFound
from luthier_kit.store._documents import to_json
from luthier_kit.store._objects import ObjectStore

FRESH_S = 30.0
_PREFIX = "tombstones/"


class Tombstones:
    """What was taken down, per bucket; listed at most every `fresh_s` seconds."""

    def __init__(self, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._listed: dict[str, tuple[float, frozenset[str]]] = {}

    def add(self, objects: ObjectStore, sha256: str, *, by: str, reason: str) -> None:
        """Take down what has this digest; a second takedown changes nothing."""
        tombstone = Tombstone(taken_down_by=by, reason=reason)
        tombstone.taken_down_at.GetCurrentTime()
        objects.create(f"{_PREFIX}{sha256}.json", to_json(tombstone))
        self._listed.pop(objects.bucket, None)

    def check(self, objects: ObjectStore, sha256: str) -> None:
        """Raise NotFound ARTIFACT_TAKEN_DOWN when these bytes were taken down from the bucket."""
        if self.names(objects, sha256):
            raise NotFound(f"artifact {sha256} was taken down", reason="ARTIFACT_TAKEN_DOWN")

    def names(self, objects: ObjectStore, sha256: str) -> bool:
        """Whether these bytes were taken down from the bucket."""
        return sha256 in self._of(objects)

    def _of(self, objects: ObjectStore) -> frozenset[str]:
        listed_at, digests = self._listed.get(objects.bucket, (-self._fresh_s, frozenset()))
        now = time.monotonic()
        if now - listed_at >= self._fresh_s:
            digests = frozenset(key.removeprefix(_PREFIX).removesuffix(".json") for key in objects.keys(_PREFIX))
            self._listed[objects.bucket] = (now, digests)
        return digests
