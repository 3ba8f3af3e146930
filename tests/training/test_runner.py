"""A runner's exit code tells whether its run has ended: Kubernetes starts another one until it has."""

import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest

from luthier_kit.heartbeat import Heartbeat
from luthier_kit.runs import RunLog
from luthier_training import runner
from luthier_training.tuning import Tuning

from .conftest import queued_tuning


@pytest.fixture
def run(store, tmp_path, monkeypatch):
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("LUTHIER_STORE_FOLDER", str(tmp_path / "store"))
    monkeypatch.setenv("LUTHIER_SCRATCH", str(tmp_path))
    monkeypatch.setattr(runner, "ASK_AGAIN_S", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    yield RunLog.create(store, "training", "r", {"tiny_base": {}})
    signal.signal(signal.SIGTERM, before)


def soon(act):
    threading.Timer(0.5, act).start()


def test_names_are_those_of_one_process():
    assert runner.own_name() != runner.own_name()
    assert runner.own_name().replace("-", "").isalnum()


def test_ranks_of_one_torchrun_have_one_name(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "12345678-1234-5678-1234-567812345678")
    assert runner.own_name() == runner.own_name()


def test_a_run_that_has_ended_is_left(run):
    run.cancel("me", "enough")
    assert runner.main(run.id) == runner.ENDED
    assert run.read().attempts == 0


def test_it_waits_until_a_dead_runners_heart_is_silent_and_takes_over(store, run):
    dead = RunLog(store, run.id, "dead")
    dead.start()
    soon(lambda: Heartbeat(store, run.id, "dead").stop())
    own = RunLog(store, run.id, "new")
    taken = runner.take(own)
    assert (taken.state, taken.runner, taken.attempts) == ("RUNNING", "new", 2)


def test_it_leaves_a_run_that_another_runner_ends_meanwhile(store, run):
    other = RunLog(store, run.id, "other")
    other.start()
    soon(lambda: other.succeed(model="m@1"))
    assert runner.main(run.id, "late") == runner.ENDED
    assert not Heartbeat(store, run.id, "late").alive()


def test_told_to_go_while_it_waits_it_says_that_the_run_has_not_ended(store, run):
    RunLog(store, run.id, "other").start()
    soon(lambda: os.kill(os.getpid(), signal.SIGTERM))
    began = time.monotonic()
    with pytest.raises(SystemExit) as left:
        runner.main(run.id)
    assert left.value.code == runner.UNFINISHED
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("accumulate", "step"), [(1, 5), (2, 3)])
def test_told_to_go_in_a_step_it_stores_a_checkpoint_first(
    store, run, base, dataset_ref, monkeypatch, accumulate, step
):
    training_step = Tuning.training_step

    def told_in_the_fifth_batch(self, batch, batch_idx):
        if batch_idx == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(Tuning, "training_step", told_in_the_fifth_batch)
    record = queued_tuning(store, dataset_ref, "told", accumulate=accumulate)
    # forked: nothing is imported again
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(runner.main(record.id, "own")))
    process.start()
    process.join(60)
    left = record.read()
    assert process.exitcode == runner.UNFINISHED
    assert (left.state, left.progress["checkpoint_step"]) == ("RUNNING", step)
    assert not Heartbeat(store, record.id, "own").alive()


def test_a_run_that_was_taken_away_has_not_ended(store, run, monkeypatch):
    def work(*_):
        Heartbeat(store, run.id, "own").stop()
        RunLog(store, run.id, "other").start()
        RunLog(store, run.id, "own").progress(stage="train")

    monkeypatch.setattr(runner, "_work", work)
    assert runner.main(run.id, "own") == runner.UNFINISHED
    assert run.read().runner == "other"


def test_without_a_run_nothing_has_ended(store, run):
    assert runner.main("training-" + "0" * 32) == runner.UNFINISHED


def test_another_rank_waits_for_the_first_and_goes_with_it(run, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    soon(lambda: run.cancel("me", "enough"))
    assert runner.main(run.id) == runner.ENDED
