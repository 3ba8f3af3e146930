"""What counts against S3's retry budget: the time without progress, and of one attempt half of the budget at most."""

import pytest

from luthier_kit.store._s3 import _WithoutProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be changed by the test."""
    now = [1000.0]
    monkeypatch.setattr("luthier_kit.store._s3.time.monotonic", lambda: now[0])
    return now


def test_an_attempt_however_long_leaves_one_more(clock: list[float]) -> None:
    """An upload that broke after minutes is tried again; a server that never answers is given up after the second."""
    budget = _WithoutProgress(10.0)
    clock[0] += 300
    assert budget.left_s() == 5
    clock[0] += 300
    assert budget.left_s() == 0


def test_quick_failures_and_their_pauses_count_as_they_are(clock: list[float]) -> None:
    budget = _WithoutProgress(10.0)
    for took_s, left_s in ((1, 9), (1, 8), (2, 6), (4, 2), (4, -2)):
        clock[0] += took_s
        assert budget.left_s() == left_s
