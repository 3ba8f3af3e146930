"""Keeps the served names at their newest version: loads beside, then switches."""

import logging
import threading

from luthier_inference.catalogue import Catalogue
from luthier_inference.shelf import Shelf
from luthier_kit import models
from luthier_kit.errors import LuthierError, NotFound

log = logging.getLogger(__name__)


class Watcher:
    """Follows the names that `catalogue` serves, every `every_s` seconds, in a thread of its own."""

    def __init__(self, catalogue: Catalogue, shelf: Shelf, every_s: float) -> None:
        self._catalogue, self._shelf, self._every_s = catalogue, shelf, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watcher", daemon=True)

    def start(self) -> None:
        """Loads what is registered now, then goes on in the background."""
        for name in self._catalogue.served:
            self._try(name)
        if self._catalogue.served:
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=60)

    def refresh(self, name: str) -> None:
        """Brings one name to its newest version. A name that nobody has registered yet is no error."""
        try:
            newest = models.resolve(self._catalogue.store, name)
        except NotFound:
            log.warning("model %s is to be served, but no version of it is registered yet", name)
            return
        before = self._catalogue.current(name)
        if before and before.n == newest.n:
            return
        self._shelf.load_beside(self._catalogue.profile(newest))
        self._catalogue.switch(name, newest)
        log.info("model %s is served now", newest.label)
        if before and before.digest not in self._digests():
            self._shelf.retire(before.digest)

    def _digests(self) -> set[str]:
        current = (self._catalogue.current(name) for name in self._catalogue.served)
        return {version.digest for version in current if version}

    def _follow(self) -> None:
        while not self._stop.wait(self._every_s):
            for name in self._catalogue.served:
                self._try(name)

    def _try(self, name: str) -> None:
        """A version that cannot be loaded leaves the one before it in service."""
        try:
            self.refresh(name)
        except LuthierError as error:
            log.error("model %s stays as it is: %s", name, error)
        except Exception:
            log.exception("model %s stays as it is", name)
