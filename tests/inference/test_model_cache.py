"""The models in memory."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from luthier.common.v1.common_pb2 import ArtifactRef, ModelAdapter
from luthier_inference.memory import Memory, Need
from luthier_inference.model_cache import ModelCache
from luthier_inference.served_models import AdapterShare, ServedVersion
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import Cancelled, Unavailable
from luthier_model.adapter_mix import LoadedAdapter
from luthier_model.configuration import packaged
from luthier_model.generation import LoadedModel


def served_version(sha256: str) -> ServedVersion:
    """A version that is nowhere stored; its digest follows from its checkpoint's."""
    return ServedVersion(ModelVersion("any", ArtifactRef(sha256=sha256), ArtifactRef()), packaged("tiny"))


A, B, C = (served_version(digit * 64) for digit in "abc")


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


class Loads:
    """Loads nothing and remembers for which versions."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.versions = seconds, list[ServedVersion]()
        self.adapters = list[tuple[ModelVersion, LoadedModel]]()

    def __call__(self, served: ServedVersion) -> LoadedModel:
        time.sleep(self.seconds)
        self.versions.append(served)
        return LoadedModel(None, served.configuration, torch.device("cpu"))

    def adapter(self, version: ModelVersion, model: LoadedModel) -> LoadedAdapter:
        self.adapters.append((version, model))
        return LoadedAdapter({})


def cache_of(
    loads: Loads, capacity: int, *, memory: int = 1 << 40, size: int = 1, patience_s: float = 60.0
) -> ModelCache:
    """Each model takes `size` bytes of so many."""
    return ModelCache(loads, loads.adapter, capacity, Memory(memory), lambda served: size, patience_s)


def test_the_cache_drops_the_least_recently_used() -> None:
    loads = Loads()
    cache = cache_of(loads, capacity=2)
    for served in (A, B, A, C):
        with cache.acquire(served):
            pass

    assert cache.loaded() == {A.version.digest, C.version.digest}
    assert loads.versions == [A, B, C]


def test_a_call_waits_until_another_model_is_not_in_use() -> None:
    loads = Loads()
    cache = cache_of(loads, capacity=1)

    def use() -> set[str]:
        with cache.acquire(B):
            return cache.loaded()

    with ThreadPoolExecutor(1) as threads:
        with cache.acquire(A):
            waiting = threads.submit(use)
            wait_until(lambda: cache._waits_since < math.inf)
            during = cache.loaded()
        assert waiting.result() == {B.version.digest}

    assert during == {A.version.digest}


def test_who_waits_for_a_model_may_leave() -> None:
    cache, stop = cache_of(Loads(), capacity=1), threading.Event()
    stop.set()

    with cache.acquire(A), pytest.raises(Cancelled), cache.acquire(B, stop=stop):
        pass

    with cache.acquire(B):  # holds up nobody
        assert cache.loaded() == {B.version.digest}


def test_a_model_in_constant_use_gives_way_in_the_end() -> None:
    cache, order = cache_of(Loads(), capacity=1, patience_s=0.0), list[str]()

    def use(served: ServedVersion) -> None:
        with cache.acquire(served):
            order.append(served.version.digest)

    with ThreadPoolExecutor(2) as threads:
        with cache.acquire(A):
            waiting = threads.submit(use, B)
            wait_until(lambda: cache._waits_since < math.inf)
            next_of_a = threads.submit(use, A)  # it is loaded, and comes later
        waiting.result()
        next_of_a.result()

    assert order == [B.version.digest, A.version.digest]


def test_models_stay_within_the_memory() -> None:
    cache = cache_of(Loads(), capacity=3, memory=100, size=40)
    for served in (A, B, C):
        with cache.acquire(served):
            pass

    assert cache.loaded() == {B.version.digest, C.version.digest}


def test_an_unused_model_goes_when_a_request_needs_its_memory() -> None:
    cache = cache_of(Loads(), capacity=3, memory=100, size=40)
    with cache.acquire(A), cache.acquire(B):
        pass

    with cache.acquire(B, Need(held=10, alone=30)):
        assert cache.loaded() == {B.version.digest}


def with_adapter(served: ServedVersion, sha256: str, size: int = 0) -> ServedVersion:
    adapter = ModelAdapter(artifact=ArtifactRef(sha256=sha256, size_bytes=size))
    return replace(served, adapters=(AdapterShare(replace(served.version, adapters=(adapter,))),))


def test_an_adapter_is_loaded_once_and_goes_with_its_model() -> None:
    loads = Loads()
    cache = cache_of(loads, capacity=1)
    for served in (with_adapter(A, "1" * 64), A, with_adapter(A, "1" * 64), with_adapter(A, "2" * 64)):
        with cache.acquire(served):
            pass
    before = len(loads.adapters)
    for served in (B, with_adapter(A, "1" * 64)):
        with cache.acquire(served):
            pass

    assert before == 2
    assert len(loads.adapters) == 3
    assert loads.adapters[0][1] is not loads.adapters[2][1], "it was read for the layers of the model loaded anew"


def test_adapters_share_the_memory_and_the_least_used_goes() -> None:
    loads = Loads()
    cache = cache_of(loads, capacity=1, memory=100, size=40)
    first, second, third = (with_adapter(A, digit * 64, size=25) for digit in "123")
    for served in (first, second, first, third, first):
        with cache.acquire(served):
            pass

    assert [version.adapters[0].artifact.sha256[0] for version, _ in loads.adapters] == ["1", "2", "3"]
    assert cache.loaded() == {A.version.digest}


def test_a_newer_version_is_not_loaded_beside_one_in_use_without_memory() -> None:
    cache = cache_of(Loads(), capacity=1, memory=100, size=60)

    with cache.acquire(A), pytest.raises(Unavailable, match="no memory"):
        cache.load_beside(B)

    cache.load_beside(B)
    assert cache.loaded() == {B.version.digest}


def test_two_calls_for_one_model_load_it_once() -> None:
    loads = Loads(seconds=0.2)
    cache = cache_of(loads, capacity=1)

    def use() -> None:
        with cache.acquire(A):
            pass

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()

    assert loads.versions == [A]


def test_a_retired_model_stays_while_it_is_used() -> None:
    cache = cache_of(Loads(), capacity=2)
    with cache.acquire(A):
        cache.retire(A.version.digest)
        during = cache.loaded()

    assert (during, cache.loaded()) == ({A.version.digest}, set())
