"""Progress is published as it comes due; a runner that should stop keeps its run until the checkpoint is stored."""

import contextlib
import time
from collections.abc import Iterator

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, LossPoint, TrainingProgress
from luthier_kit.registry import RUN_STATE_RUNNING, RunLog
from luthier_kit.rpc import Aborted
from luthier_kit.store import Store
from luthier_training import reporting
from luthier_training.reporting import HeartbeatThread, Reporter, Stopped
from luthier_training.runs import KIND, TrainingRunLog


@pytest.fixture
def own(store: Store, monkeypatch: pytest.MonkeyPatch) -> TrainingRunLog:
    """The log of a runner that has taken its run and whose heartbeats come quickly."""
    monkeypatch.setattr(reporting, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(reporting, "HEARTBEAT_INTERVAL_S", 0.02)
    found = RunLog(store, KIND, RunLog.create(store, KIND, "r", CreateTrainingRunRequest()).id, "own")
    found.start()
    return found


@pytest.fixture
def reporter(own: TrainingRunLog) -> Reporter:
    return Reporter(own.read().progress, own)


@pytest.fixture
def heartbeat(store: Store, own: TrainingRunLog, reporter: Reporter) -> Iterator[HeartbeatThread]:
    found = HeartbeatThread(RunLog(store, KIND, own.id, own.runner), reporter)
    yield found
    found.close()


def beats(own: TrainingRunLog) -> bool:
    """Whether a heartbeat that was stopped comes again."""
    own.heartbeat.stop()
    time.sleep(0.3)
    return own.heartbeat.alive()


def test_a_stage_is_published_at_once_and_keeps_what_was_found_before(own: TrainingRunLog, reporter: Reporter) -> None:
    reporter.stage("train", 10)
    reporter.advance(10, 10, 0.5, [LossPoint(step=10, loss=0.5)])
    reporter.checkpoint(ArtifactRef(key="checkpoints/x"), 10)
    reporter.stage("export")
    progress = own.read().progress
    assert (progress.stage, progress.done, progress.total) == ("export", 0, 0)
    assert (progress.loss, progress.training[0].step, progress.checkpoint_step) == (0.5, 10, 10)
    assert not progress.HasField("eta_s")


def test_steps_are_published_no_more_often_than_due(own: TrainingRunLog, reporter: Reporter) -> None:
    reporter.stage("train", 1000)
    before = own.read().seq
    for step in range(1, 101):
        reporter.advance(step, 1000, 0.5)
    assert own.read().seq <= before + 1
    assert reporter.progress.done == 100


def test_a_checkpoint_is_published_with_the_newest_losses(own: TrainingRunLog, reporter: Reporter) -> None:
    reporter.stage("train", 1000)
    reporter.advance(1, 1000, 0.9, [LossPoint(step=1, loss=0.9)])
    reporter.advance(2, 1000, 0.8, [LossPoint(step=1, loss=0.9), LossPoint(step=2, loss=0.8)])
    reporter.checkpoint(ArtifactRef(key="checkpoints/x"), 2)
    assert [point.step for point in own.read().progress.training] == [1, 2]


def test_what_was_left_is_estimated_from_what_this_attempt_did(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reporter.stage("train", 30, done=10)
    now[0] += 5
    reporter.advance(20, 30)
    assert reporter.progress.eta_s == 5.0


def test_a_rank_other_than_0_publishes_nothing(own: TrainingRunLog) -> None:
    before = own.read().seq
    silent = Reporter(TrainingProgress())
    silent.stage("train", 10)
    silent.advance(10, 10, 0.5)
    assert own.read().seq == before


def test_a_stage_does_not_begin_when_the_run_should_stop(reporter: Reporter) -> None:
    reporter.stop()
    with pytest.raises(Stopped):
        reporter.stage("export")


def test_the_heartbeat_goes_on_while_the_checkpoint_is_stored(
    own: TrainingRunLog, reporter: Reporter, heartbeat: HeartbeatThread
) -> None:
    reporter.stop()
    assert not reporter.going
    assert beats(own)


def test_the_heartbeat_of_a_cancelled_run_goes_on_while_the_checkpoint_is_stored(
    store: Store, own: TrainingRunLog, reporter: Reporter, heartbeat: HeartbeatThread
) -> None:
    RunLog(store, KIND, own.id).cancel("me", "enough")
    while reporter.going:
        time.sleep(0.01)
    assert heartbeat.cancelled
    assert beats(own)
    assert RunLog(store, KIND, own.id).requeue().state == RUN_STATE_RUNNING


def test_a_run_that_has_another_runner_stops_and_is_not_cancelled(
    store: Store, own: TrainingRunLog, reporter: Reporter, heartbeat: HeartbeatThread
) -> None:
    own.heartbeat.stop()
    other = RunLog(store, KIND, own.id, "other")
    while reporter.going:  # until it comes between two heartbeats
        own.heartbeat.stop()
        with contextlib.suppress(Aborted):
            other.start()
        time.sleep(0.01)
    assert not heartbeat.cancelled


def test_the_heartbeat_of_a_runner_that_hangs_ends(
    own: TrainingRunLog, reporter: Reporter, heartbeat: HeartbeatThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "STOP_TIMEOUT_S", 0.05)
    reporter.stop()
    time.sleep(0.2)
    assert not beats(own)


def test_no_heartbeat_comes_after_the_end(own: TrainingRunLog, heartbeat: HeartbeatThread) -> None:
    heartbeat.close()
    assert not beats(own)
