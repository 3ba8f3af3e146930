"""What a process publishes of itself: at once, every few seconds, and how it ended."""

import time

import pytest

from luthier_kit.artifacts import open_artifacts
from luthier_kit.errors import Unavailable
from luthier_kit.settings import StoreSettings
from luthier_pipeline import diary as diaries
from luthier_pipeline.diary import Diary

SERIES = "runs/pipeline-book/r/0-of-1"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(diaries, "NOTE_EVERY_S", 0.02)
    return open_artifacts(StoreSettings(store_folder=tmp_path))


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def newest(store):
    return store.latest(SERIES) or (0, {})


def test_it_says_where_it_is_and_leaves_no_heap(store):
    with Diary(store, "book", "r", "0-of-1", songs=3) as diary:
        until(lambda: newest(store)[1].get("state") == "RUNNING")
        diary.tell(rendered=2)
        until(lambda: newest(store)[1].get("rendered") == 2 and newest(store)[0] > 5)
        assert len(list(store.objects.keys(f"{SERIES}/"))) <= 3
        diary.end()
    assert (newest(store)[1]["state"], newest(store)[1]["songs"]) == ("DONE", 3)
    number = newest(store)[0]
    time.sleep(0.1)
    assert newest(store)[0] == number


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), ("INTERRUPTED", None)),
        (Unavailable("away", reason="UNREACHABLE"), ("FAILED", "UNREACHABLE")),
        (ZeroDivisionError(), ("FAILED", "INTERNAL")),
    ],
)
def test_it_says_why_it_ended(store, error, said):
    with pytest.raises(type(error)), Diary(store, "book", "r", "0-of-1"):
        raise error
    assert (newest(store)[1]["state"], newest(store)[1].get("reason")) == said


def test_a_store_that_is_down_stops_nothing(store, tmp_path):
    with Diary(store, "book", "r", "0-of-1") as diary:
        until(lambda: newest(store)[0])
        (tmp_path / "luthier").rename(tmp_path / "gone")
        time.sleep(0.1)
        (tmp_path / "gone").rename(tmp_path / "luthier")
        diary.end()
    assert newest(store)[1]["state"] == "DONE"
