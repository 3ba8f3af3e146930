"""A runner's exit code tells whether its run has ended: Kubernetes starts another one until it has."""

import itertools
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TinyBase, TrainingProgress, TrainingResult
from luthier_kit.registry import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    Heartbeat,
    ModelVersion,
    RunLog,
    current_version,
    resolve,
)
from luthier_kit.rpc import error_of
from luthier_kit.store import Store
from luthier_training import runner
from luthier_training.recipes import fine_tune
from luthier_training.runs import KIND, TrainingRunLog

from .conftest import promote, queued_tuning


@pytest.fixture
def run(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingRunLog]:
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("LUTHIER_STORE_FOLDER", str(tmp_path / "store"))
    monkeypatch.setenv("LUTHIER_SCRATCH", str(tmp_path))
    monkeypatch.setattr(runner, "POLL_INTERVAL_S", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    yield RunLog.create(store, KIND, "r", CreateTrainingRunRequest(tiny_base=TinyBase()))
    signal.signal(signal.SIGTERM, before)


def soon(act: Callable[[], object]) -> None:
    threading.Timer(0.5, act).start()


def test_names_are_those_of_one_process() -> None:
    assert runner.process_name() != runner.process_name()
    assert runner.process_name().replace("-", "").isalnum()


def test_ranks_of_one_torchrun_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "12345678-1234-5678-1234-567812345678")
    assert runner.process_name() == runner.process_name()


def test_a_run_that_has_ended_is_left(run: TrainingRunLog) -> None:
    run.cancel("me", "enough")
    assert runner.main(run.id) == runner.ENDED
    assert run.read().attempts == 0


def test_it_waits_until_a_dead_runners_heart_is_silent_and_takes_over(store: Store, run: TrainingRunLog) -> None:
    dead = RunLog(store, KIND, run.id, "dead")
    dead.start()
    soon(lambda: Heartbeat(store, run.id, "dead").stop())
    own = RunLog(store, KIND, run.id, "new")
    taken = runner.take_over(own)
    assert (taken.state, taken.runner, taken.attempts) == (RUN_STATE_RUNNING, "new", 2)


def test_it_leaves_a_run_that_another_runner_ends_meanwhile(store: Store, run: TrainingRunLog) -> None:
    other = RunLog(store, KIND, run.id, "other")
    other.start()
    soon(lambda: other.succeed(TrainingResult(model="m@1")))
    assert runner.main(run.id, "late") == runner.ENDED
    assert not Heartbeat(store, run.id, "late").alive()


def test_told_to_go_while_it_waits_it_says_that_the_run_has_not_ended(store: Store, run: TrainingRunLog) -> None:
    RunLog(store, KIND, run.id, "other").start()
    soon(lambda: os.kill(os.getpid(), signal.SIGTERM))
    began = time.monotonic()
    with pytest.raises(SystemExit) as left:
        runner.main(run.id)
    assert left.value.code == runner.UNFINISHED
    assert time.monotonic() - began < 5


def in_the(number: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens while the loss of batch `number` (1, 2, …) is computed."""
    batch_loss, numbers = fine_tune.batch_loss, itertools.count(1)

    def acting(*arguments: Any, **options: Any) -> torch.Tensor:
        if next(numbers) == number:
            act()
        return batch_loss(*arguments, **options)

    monkeypatch.setattr(fine_tune, "batch_loss", acting)


@pytest.mark.parametrize(("accumulate", "step"), [(1, 5), (2, 3)])
def test_told_to_go_in_a_step_it_stores_a_checkpoint_first(
    store: Store,
    run: TrainingRunLog,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
    monkeypatch: pytest.MonkeyPatch,
    accumulate: int,
    step: int,
) -> None:
    in_the(5, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    record = queued_tuning(store, dataset_ref, "told", accumulate=accumulate)
    # forked: nothing is imported again
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(runner.main(record.id, "own")))
    process.start()
    process.join(60)
    left = record.read()
    assert process.exitcode == runner.UNFINISHED
    assert (left.state, left.progress.checkpoint_step) == (RUN_STATE_RUNNING, step)
    assert not Heartbeat(store, record.id, "own").alive()


def test_a_cancelled_run_ends_and_its_heartbeat_stops(
    store: Store, run: TrainingRunLog, base: ModelVersion, dataset_ref: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier_training.reporting.POLL_INTERVAL_S", 0.01)
    record = queued_tuning(store, dataset_ref, "cancelled", steps=100_000, validate_every=100_000)

    in_the(3, lambda: RunLog(store, KIND, record.id).cancel("me", "enough"), monkeypatch)
    assert runner.main(record.id, "own") == runner.ENDED
    ended = record.read()
    assert ended.state == RUN_STATE_CANCELLED
    assert store.objects.stat(ended.progress.checkpoint.key)
    assert not Heartbeat(store, record.id, "own").alive()


def test_a_run_whose_name_is_promoted_meanwhile_keeps_what_it_made(
    store: Store, run: TrainingRunLog, base: ModelVersion, dataset_ref: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = queued_tuning(store, dataset_ref, "promoted")

    in_the(3, lambda: promote(store, base, "tuned"), monkeypatch)
    assert runner.main(record.id, "own") == runner.ENDED
    ended = record.read()
    assert (ended.state, ended.result.model) == (RUN_STATE_SUCCEEDED, f"tuned-{record.id.rpartition('-')[2][:16]}@1")
    made = resolve(store, ended.result.model)
    assert store.blobs.exists(made.checkpoint)
    assert made.reason.endswith("tuned was promoted meanwhile")
    assert resolve(store, "tuned").digest == base.digest


def test_the_longest_name_leaves_room_for_the_runs_digits(store: Store, base: ModelVersion) -> None:
    name = "n" * 64
    promote(store, base, name)
    made = replace(base, name=name, notes={"run": "r"}, created_at=None, n=0)
    first = runner.publish(store, made, "training-" + "0123456789abcdef" * 2)
    assert first.label == f"{'n' * 47}-0123456789abcdef@1"
    assert runner.publish(store, made, "training-" + "0123456789abcdef" * 2) == first  # a runner died after this


def test_a_run_that_diverges_fails_by_that_reason_and_keeps_what_was_good(
    store: Store, run: TrainingRunLog, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """A learning rate beyond what a request may have: at the highest, 0.1, this model does not diverge."""
    record = queued_tuning(store, dataset_ref, "diverges", learning_rate=0.1, steps=40, checkpoint_every=1)
    request = record.read().request
    request.fine_tune.learning_rate = 1e30
    diverging = RunLog.create(store, KIND, "diverges-for-real", request)
    assert runner.main(diverging.id, "own") == runner.ENDED
    ended = diverging.read()
    assert ended.error
    assert (ended.state, error_of(ended.error).reason) == (RUN_STATE_FAILED, "TRAINING_DIVERGED")
    assert "lower learning rate" in ended.error.message
    kept = ended.progress
    assert [point.step for point in kept.training] == list(range(1, kept.checkpoint_step + 1)) != []
    assert all(math.isfinite(point.loss) for point in [*kept.training, *kept.validation])
    assert store.blobs.fetch(kept.checkpoint, tmp_path / "kept").stat().st_size
    assert current_version(store, "tuned") is None
    assert not Heartbeat(store, diverging.id, "own").alive()


def test_a_run_that_was_taken_away_has_not_ended(
    store: Store, run: TrainingRunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object) -> None:
        Heartbeat(store, run.id, "own").stop()
        RunLog(store, KIND, run.id, "other").start()
        RunLog(store, KIND, run.id, "own").progress(TrainingProgress(stage="train"))

    monkeypatch.setattr(runner, "_work", work)
    assert runner.main(run.id, "own") == runner.UNFINISHED
    assert run.read().runner == "other"


def test_without_a_run_nothing_has_ended(store: Store, run: TrainingRunLog) -> None:
    assert runner.main("training-" + "0" * 32) == runner.UNFINISHED


def test_another_rank_waits_for_the_first_and_goes_with_it(
    run: TrainingRunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    soon(lambda: run.cancel("me", "enough"))
    assert runner.main(run.id) == runner.ENDED
