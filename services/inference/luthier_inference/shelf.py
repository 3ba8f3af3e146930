"""The models in memory: a bounded number, the least recently used goes first."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from luthier_inference.catalogue import Profile
from luthier_inference.generation import Model
from luthier_inference.metrics import MODELS_LOADED
from luthier_kit.errors import Unavailable

log = logging.getLogger(__name__)


@dataclass
class _Place:
    model: Model
    users: int = 0
    retired: bool = False


class Shelf:
    """Lends models by the digest of their version. Models load one at a time, so memory stays bounded."""

    def __init__(self, load: Callable[[Profile], Model], capacity: int) -> None:
        self._load, self._capacity = load, capacity
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._lock, self._loading = threading.Lock(), threading.Lock()

    @contextmanager
    def lent(self, profile: Profile) -> Iterator[Model]:
        """The model, loaded if need be, not dropped while the block runs. Unavailable when no room can be made."""
        place = self._take(profile, self._capacity)
        try:
            yield place.model
        finally:
            self._give_back(profile, place)

    def load_beside(self, profile: Profile) -> None:
        """Loads a model while all that are loaded stay: one more than usual, until one is retired."""
        self._give_back(profile, self._take(profile, self._capacity + 1))

    def retire(self, digest: str) -> None:
        """Drops a model as soon as nobody uses it."""
        with self._lock:
            if place := self._places.get(digest):
                place.retired = True
                self._drop_if_free(digest, place)

    def loaded(self) -> set[str]:
        """Digests of the versions in memory."""
        with self._lock:
            return set(self._places)

    def _take(self, profile: Profile, limit: int) -> _Place:
        if place := self._find(profile):
            return place
        with self._loading:
            if place := self._find(profile):
                return place
            self._make_room(limit)
            place = _Place(self._load(profile), users=1)
            with self._lock:
                self._places[profile.version.digest] = place
                MODELS_LOADED.set(len(self._places))
            log.info("model %s is loaded", profile.version.label)
            return place

    def _find(self, profile: Profile) -> _Place | None:
        with self._lock:
            if place := self._places.get(profile.version.digest):
                self._places.move_to_end(profile.version.digest)
                place.users, place.retired = place.users + 1, False
            return place

    def _give_back(self, profile: Profile, place: _Place) -> None:
        with self._lock:
            place.users -= 1
            self._drop_if_free(profile.version.digest, place)

    def _make_room(self, limit: int) -> None:
        with self._lock:
            idle = [digest for digest, place in self._places.items() if not place.users]
            while len(self._places) >= limit and idle:
                self._places.pop(idle.pop(0))
            MODELS_LOADED.set(len(self._places))
            if len(self._places) >= limit:
                text = f"all {len(self._places)} loaded models are at work, and no more may be loaded"
                raise Unavailable(text, reason="MODELS_BUSY", retry_after_s=5.0)

    def _drop_if_free(self, digest: str, place: _Place) -> None:
        if place.retired and not place.users:
            self._places.pop(digest, None)
            MODELS_LOADED.set(len(self._places))
