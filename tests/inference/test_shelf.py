"""The models in memory, and settings that cannot work."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from luthier_inference.app import build
from luthier_inference.shelf import Shelf
from luthier_kit.errors import Unavailable
from luthier_kit.settings import SettingsError

from .conftest import settings_for

PROMPT = "calm piano"


class FakeProfile:
    """Enough of a profile for the shelf."""

    def __init__(self, digest: str):
        self.version = type("Version", (), {"digest": digest, "label": digest})()


def test_the_shelf_drops_the_least_recently_used():
    loads: list[str] = []
    shelf = Shelf(lambda profile: loads.append(profile.version.digest), capacity=2)
    for digest in ("a", "b", "a", "c"):
        with shelf.lent(FakeProfile(digest)):
            pass

    assert shelf.loaded() == {"a", "c"}
    assert loads == ["a", "b", "c"]


def test_the_shelf_never_holds_more_than_it_may():
    shelf = Shelf(lambda profile: object(), capacity=1)

    with shelf.lent(FakeProfile("a")), pytest.raises(Unavailable, match="at work"), shelf.lent(FakeProfile("b")):
        pass


def test_two_calls_for_one_model_load_it_once():
    loads: list[str] = []

    def slow(profile):
        time.sleep(0.2)
        loads.append(profile.version.digest)
        return object()

    shelf = Shelf(slow, capacity=1)

    def use():
        with shelf.lent(FakeProfile("a")):
            pass

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()

    assert loads == ["a"]


def test_a_retired_model_stays_while_it_is_used():
    shelf = Shelf(lambda profile: object(), capacity=2)
    with shelf.lent(FakeProfile("a")):
        shelf.retire("a")
        during = shelf.loaded()

    assert (during, shelf.loaded()) == ({"a"}, set())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"device": "cuda"}, "no CUDA device"),
        ({"precision": "bfloat16"}, "needs DEVICE=cuda"),
        ({"models": ("a", "b"), "models_loaded": 1}, "LUTHIER_MODELS_LOADED"),
        ({"text_encoder": "/no/such/folder"}, "LUTHIER_TEXT_ENCODER"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(tmp_path, wrong, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = settings_for(tmp_path)

    with pytest.raises(SettingsError, match=said):
        build(replace(settings, **wrong))
