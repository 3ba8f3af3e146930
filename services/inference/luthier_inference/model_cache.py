"""The models in memory: loaded on demand and kept current, a bounded number, the least recently used goes first."""

import logging
import math
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from luthier_inference.memory import NOTHING, Memory, Need
from luthier_inference.metrics import ADAPTERS_LOADED, MEMORY_TAKEN, MODELS_LOADED
from luthier_inference.served_models import ServedModels, ServedVersion
from luthier_kit.registry import ModelVersion, refuse_unfit, resolve
from luthier_kit.rpc import Cancelled, LuthierError, NotFound, Unavailable
from luthier_kit.store import Store
from luthier_model.adapter_mix import AdapterMix, LoadedAdapter, load_adapter
from luthier_model.compiled import Speedups
from luthier_model.generation import LoadedModel, for_serving, prepare, warm_up
from luthier_model.loading import load
from luthier_model.registered import fetch_adapters, fetch_version, statuses

log = logging.getLogger(__name__)

PATIENCE_S: Final = 10.0
LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True)
class Loader:
    """Loads versions from a store. Files lie in `scratch` only while they are read.

    `text_encoder` is the folder for versions that bring none. With `speedups` a model is warmed up for passes of up to
    `in_a_pass` requests.
    """

    store: Store
    device: torch.device
    precision: str
    text_encoder: Path | None
    scratch: Path
    speedups: Speedups | None = None
    in_a_pass: int = 1

    def __call__(self, served: ServedVersion) -> LoadedModel:
        """DataLoss when the stored bytes are corrupt, FailedPrecondition when they do not fit together or the version
        would make noise.
        """
        refuse_unfit(served.version)
        with (
            statuses(served.version),
            tempfile.TemporaryDirectory(dir=self.scratch, prefix="model-") as folder,
        ):
            files = fetch_version(self.store, served.version, Path(folder))
            text = files.text_encoder or self.text_encoder
            network = load(files.configuration, files.weights, text, str(self.device), files.adapters)
        precision = served.precision or self.precision
        for_serving(network, precision)
        model = prepare(network, served.configuration, self.device, precision, self.speedups)
        if self.speedups:
            began = time.monotonic()
            shapes = warm_up(model, self.in_a_pass)
            log.info(
                "model %s: %d shapes of a pass are warm after %.1f s", served.key, shapes, time.monotonic() - began
            )
        return model

    def adapter(self, version: ModelVersion, model: LoadedModel) -> LoadedAdapter:
        """The last adapter of a version, for what lies beneath it. Errors as of a version."""
        refuse_unfit(version)
        with statuses(version), tempfile.TemporaryDirectory(dir=self.scratch, prefix="adapter-") as folder:
            return load_adapter(fetch_adapters(self.store, version, Path(folder))[-1], model.network)


@dataclass
class _Entry:
    """`over`: of an adapter the model that it changes, by its digest."""

    loaded: Any
    over: str = ""
    users: int = 0
    retired: bool = False


class ModelCache:
    """Models by the digest of their version, at most `capacity`, and adapters for them, within the device's memory.

    They load one at a time. A call for a model that there is no room for waits until another is not in use; where it
    has waited for `patience_s`, calls for models that are loaded wait behind it, so that its turn comes.
    """

    def __init__(
        self,
        load: Callable[[ServedVersion], LoadedModel],
        load_adapter: Callable[[ModelVersion, LoadedModel], LoadedAdapter],
        capacity: int,
        memory: Memory,
        size_of: Callable[[ServedVersion], int],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._load, self._load_adapter = load, load_adapter
        self._capacity, self._memory, self._size_of = capacity, memory, size_of
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._change, self._loading = threading.Condition(), threading.Lock()
        self._patience_s, self._waits_since = patience_s, math.inf

    @contextmanager
    def acquire(
        self, served: ServedVersion, need: Need = NOTHING, stop: threading.Event | None = None
    ) -> Iterator[tuple[LoadedModel, AdapterMix | None]]:
        """The model and its adapters, loaded if need be and with room for a request, not dropped while the block runs.

        Waits where room must be made; Cancelled once `stop` is set.
        """
        stop = stop or threading.Event()
        with ExitStack() as held:

            def take(key: str, size: int, load: Callable[[], Any], over: str = "") -> Any:
                entry = self._take(key, size, load, over, need, stop)
                held.callback(self._release, key, entry)
                return entry.loaded

            model: LoadedModel = take(served.key, self._size_of(served), partial(self._load, served))
            shares: list[tuple[LoadedAdapter, float]] = []
            for each in served.adapters:
                key, size = f"{served.key}+{each.artifact.sha256}", each.artifact.size_bytes
                adapter = take(key, size, partial(self._load_adapter, each.version, model), served.key)
                shares.append((adapter, each.share))
            yield model, AdapterMix.of(shares) if shares else None

    def load_beside(self, served: ServedVersion) -> None:
        """Loads a model while all that are in use stay: one more than usual, until one is retired. Unavailable when
        there is no memory for it.
        """
        key, size = served.key, self._size_of(served)
        with self._loading:
            if not (entry := self._find(key)):
                if not self._make_room(self._capacity + 1, size):
                    text = f"there is no memory for model {served.version.label} beside those in use"
                    raise Unavailable(text, reason="MODELS_BUSY")
                entry = self._add(key, size, self._load(served))
        self._release(key, entry)

    def retire(self, digest: str) -> None:
        """Drops a model, in every precision, as soon as nobody uses it."""
        with self._change:
            for key in [key for key, entry in self._entries.items() if _digest_of(key) == digest and not entry.over]:
                self._entries[key].retired = True
                self._drop_if_unused(key, self._entries[key])

    def loaded(self) -> set[str]:
        """Digests of the versions in memory."""
        with self._change:
            return {_digest_of(key) for key, entry in self._entries.items() if not entry.over}

    def _take(
        self, key: str, size: int, load: Callable[[], Any], over: str, need: Need, stop: threading.Event
    ) -> _Entry:
        limit = math.inf if over else self._capacity
        if time.monotonic() - self._waits_since < self._patience_s and (entry := self._find(key)):
            self._make_room(limit, 0, need)
            return entry
        while not self._loading.acquire(timeout=LOOK_EVERY_S):
            _refuse_stopped(stop)
        try:
            if entry := self._find(key):  # loaded by another call meanwhile
                return entry
            self._waits_since = time.monotonic()
            while not self._make_room(limit, size, need):
                _refuse_stopped(stop)
                with self._change:
                    self._change.wait(LOOK_EVERY_S)
            return self._add(key, size, load(), over)
        finally:
            self._waits_since = math.inf
            self._loading.release()

    def _add(self, key: str, size: int, loaded: Any, over: str = "") -> _Entry:
        entry = _Entry(loaded, over, users=1)
        self._memory.take(key, size)
        with self._change:
            self._entries[key] = entry
            self._tell()
        log.info("%s %s is loaded", "adapter" if over else "model", key)
        return entry

    def _find(self, key: str) -> _Entry | None:
        with self._change:
            if entry := self._entries.get(key):
                self._entries.move_to_end(key)
                entry.users, entry.retired = entry.users + 1, False
            return entry

    def _release(self, key: str, entry: _Entry) -> None:
        with self._change:
            entry.users -= 1
            self._drop_if_unused(key, entry)
            self._change.notify_all()

    def _make_room(self, limit: float, size: int, need: Need = NOTHING) -> bool:
        """Drops what is not in use, the least recently used first, until there is room for `size` bytes more (0 =
        nothing more) and a request, with fewer than `limit` models; False when there is none.
        """

        def crowded() -> bool:
            models = sum(not entry.over for entry in self._entries.values())
            return (size > 0 and models >= limit) or self._memory.lacks(size, need)

        with self._change:
            unused = [key for key, entry in self._entries.items() if not entry.users]
            while crowded() and unused:
                self._drop(unused.pop(0))
            return not crowded()

    def _drop_if_unused(self, key: str, entry: _Entry) -> None:
        if entry.retired and not entry.users:
            self._drop(key)

    def _drop(self, key: str) -> None:
        """A model goes with its adapters, which belong to its layers."""
        for each in [key, *(other for other, entry in self._entries.items() if entry.over == key)]:
            if self._entries.pop(each, None):
                self._memory.give_back(each)
        self._tell()

    def _tell(self) -> None:
        MODELS_LOADED.set(sum(not entry.over for entry in self._entries.values()))
        ADAPTERS_LOADED.set(sum(bool(entry.over) for entry in self._entries.values()))
        MEMORY_TAKEN.set(self._memory.taken)


def _digest_of(key: str) -> str:
    """Of a version in memory, without its precision."""
    return key.split("/")[0]


def _refuse_stopped(stop: threading.Event) -> None:
    if stop.is_set():
        raise Cancelled("the caller went away while its model waited for room")


class Watcher:
    """Keeps the names that `served` lists at their newest version, every `every_s` seconds, in a thread of its own.

    A newer version is loaded beside the one in service, then the name is switched to it.
    """

    def __init__(self, served: ServedModels, cache: ModelCache, every_s: float) -> None:
        self._served, self._cache, self._every_s = served, cache, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watcher", daemon=True)

    def start(self) -> None:
        """Loads what is registered now, then goes on in the background."""
        self._refresh_all()
        if self._served.names:
            self._thread.start()

    def stop(self) -> None:
        """Ends the background thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=60)

    def _follow(self) -> None:
        while not self._stop.wait(self._every_s):
            self._refresh_all()

    def _refresh_all(self) -> None:
        """A version that cannot be loaded leaves the one before it in service."""
        for name in self._served.names:
            try:
                self._refresh(name)
            except LuthierError as error:
                log.error("model %s stays as it is: %s", name, error)
            except Exception:
                log.exception("model %s stays as it is", name)

    def _refresh(self, name: str) -> None:
        try:
            newest = resolve(self._served.store, name)
        except NotFound:
            log.warning("model %s is to be served, but no version of it is registered yet", name)
            return
        before = self._served.current(name)
        if before and before.n == newest.n:
            return
        self._cache.load_beside(self._served.configured(newest))
        self._served.switch(name, newest)
        log.info("model %s is served now", newest.label)
        still_served = {version.digest for n in self._served.names if (version := self._served.current(n))}
        if before and before.digest not in still_served:
            self._cache.retire(before.digest)
