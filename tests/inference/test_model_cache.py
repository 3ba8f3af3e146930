"""The models in memory."""

import threading
import time

import pytest

from luthier_inference.model_cache import ModelCache
from luthier_kit.rpc import Unavailable


class FakeVersion:
    """Enough of a served version for the cache."""

    def __init__(self, digest: str):
        self.version = type("Version", (), {"digest": digest, "label": digest})()


def test_the_cache_drops_the_least_recently_used():
    loads: list[str] = []
    cache = ModelCache(lambda served: loads.append(served.version.digest), capacity=2)
    for digest in ("a", "b", "a", "c"):
        with cache.acquire(FakeVersion(digest)):
            pass

    assert cache.loaded() == {"a", "c"}
    assert loads == ["a", "b", "c"]


def test_the_cache_never_holds_more_than_it_may():
    cache = ModelCache(lambda served: object(), capacity=1)

    with cache.acquire(FakeVersion("a")), pytest.raises(Unavailable, match="at work"), cache.acquire(FakeVersion("b")):
        pass


def test_two_calls_for_one_model_load_it_once():
    loads: list[str] = []

    def slow(served):
        time.sleep(0.2)
        loads.append(served.version.digest)
        return object()

    cache = ModelCache(slow, capacity=1)

    def use():
        with cache.acquire(FakeVersion("a")):
            pass

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()

    assert loads == ["a"]


def test_a_retired_model_stays_while_it_is_used():
    cache = ModelCache(lambda served: object(), capacity=2)
    with cache.acquire(FakeVersion("a")):
        cache.retire("a")
        during = cache.loaded()

    assert (during, cache.loaded()) == ({"a"}, set())
