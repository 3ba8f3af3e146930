"""The models in memory."""

import threading
import time

import pytest
import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_inference.model_cache import ModelCache
from luthier_inference.served_models import ServedVersion
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import Unavailable
from luthier_model.configuration import packaged
from luthier_model.generation import LoadedModel


def served_version(sha256: str) -> ServedVersion:
    """A version that is nowhere stored; its digest follows from its checkpoint's."""
    return ServedVersion(ModelVersion("any", ArtifactRef(sha256=sha256), ArtifactRef()), packaged("tiny"))


A, B, C = (served_version(digit * 64) for digit in "abc")


class Loads:
    """Loads nothing and remembers for which versions."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.versions = seconds, list[ServedVersion]()

    def __call__(self, served: ServedVersion) -> LoadedModel:
        time.sleep(self.seconds)
        self.versions.append(served)
        return LoadedModel(None, served.configuration, torch.device("cpu"))


def test_the_cache_drops_the_least_recently_used() -> None:
    loads = Loads()
    cache = ModelCache(loads, capacity=2)
    for served in (A, B, A, C):
        with cache.acquire(served):
            pass

    assert cache.loaded() == {A.version.digest, C.version.digest}
    assert loads.versions == [A, B, C]


def test_the_cache_never_holds_more_than_it_may() -> None:
    cache = ModelCache(Loads(), capacity=1)

    with cache.acquire(A), pytest.raises(Unavailable, match="at work"), cache.acquire(B):
        pass


def test_two_calls_for_one_model_load_it_once() -> None:
    loads = Loads(seconds=0.2)
    cache = ModelCache(loads, capacity=1)

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
    cache = ModelCache(Loads(), capacity=2)
    with cache.acquire(A):
        cache.retire(A.version.digest)
        during = cache.loaded()

    assert (during, cache.loaded()) == ({A.version.digest}, set())
