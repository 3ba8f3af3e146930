"""A runner that was told to stop keeps its run until the checkpoint is stored, and not for ever."""

import time

import pytest

from luthier_kit.runs import RunLog
from luthier_training import reporting
from luthier_training.reporting import Reporter


@pytest.fixture
def own(store, monkeypatch):
    """The log of a runner that has taken its run and whose heart beats quickly."""
    monkeypatch.setattr(reporting, "POLL_S", 0.01)
    monkeypatch.setattr(reporting, "BEAT_S", 0.02)
    found = RunLog(store, RunLog.create(store, "training", "r", {}).id, "own")
    found.start()
    return found


@pytest.fixture
def reporter(store, own):
    found = Reporter(own, RunLog(store, own.id, own.runner))
    yield found
    found.close()


def beats(own):
    """Whether a heart that was silenced beats again."""
    own.heartbeat.stop()
    time.sleep(0.3)
    return own.heartbeat.alive()


def test_the_heart_beats_while_the_checkpoint_is_stored(own, reporter):
    reporter.stop()
    assert not reporter.going
    assert beats(own)


def test_the_heart_of_a_cancelled_run_beats_while_the_checkpoint_is_stored(store, own, reporter):
    RunLog(store, own.id).cancel("me", "enough")
    while reporter.going:
        time.sleep(0.01)
    assert reporter.cancelled
    assert beats(own)
    assert RunLog(store, own.id).requeue().state == "RUNNING"


def test_the_heart_of_a_runner_that_hangs_falls_silent(own, reporter, monkeypatch):
    monkeypatch.setattr(reporting, "LEAVE_S", 0.05)
    reporter.stop()
    time.sleep(0.2)
    assert not beats(own)


def test_no_beat_comes_after_the_end(own, reporter):
    reporter.close()
    assert not beats(own)
