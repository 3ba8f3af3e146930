"""Runners of a run with stages are killed, without a warning: between two stages, and while a checkpoint is written."""

import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luthier.training.v1.training_pb2 import (
    KEPT_REASON_NEWEST,
    KEPT_REASON_STAGE,
    CreateTrainingRunRequest,
    FineTune,
    StageData,
    TrainingStage,
)
from luthier_kit.registry import RUN_STATE_SUCCEEDED, ModelVersion, RunLog, resolve
from luthier_kit.store import Store
from luthier_training import runner
from luthier_training.kept import kept_of
from luthier_training.recipes import fine_tune
from luthier_training.requests import settle
from luthier_training.runs import KIND, TrainingRunLog
from luthier_training.snapshots import Snapshot

from .data_sets import LARGE, SMALL, put


@pytest.fixture
def queued(
    store: Store, base: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], TrainingRunLog]:
    """Queues a run of three steps on a small data set, then five on both."""
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("LUTHIER_STORE_FOLDER", str(tmp_path / "store"))
    monkeypatch.setenv("LUTHIER_SCRATCH", str(tmp_path))
    monkeypatch.setattr(runner, "POLL_INTERVAL_S", 0.05)
    small, large = put(store, tmp_path, "small", SMALL), put(store, tmp_path, "large", LARGE)
    stages = [
        TrainingStage(name="test", steps=3, batch_size=2, data=[StageData(dataset=small)]),
        TrainingStage(
            name="main", steps=5, batch_size=4, data=[StageData(dataset=large, share=3), StageData(dataset=small)]
        ),
    ]
    tune = FineTune(base_model="base", stages=stages, learning_rate=3e-3, validate_every=4, checkpoint_every=2)

    def queue(request_id: str) -> TrainingRunLog:
        request = CreateTrainingRunRequest(request_id=request_id, model_name=request_id, fine_tune=tune, seed=4)
        return RunLog.create(store, KIND, request_id, settle(request))

    return queue


def run_to_its_end(record: TrainingRunLog, name: str) -> int | None:
    """The exit code of a runner; forked, so that nothing is imported again."""
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(runner.main(record.id, name)))
    process.start()
    process.join()
    return process.exitcode


def killed_at(call: int) -> Callable[..., torch.Tensor]:
    """The loss as ever, but the process dies in that call."""
    batch_loss, calls = fine_tune.batch_loss, itertools.count(1)

    def dying(*arguments: Any, **options: Any) -> torch.Tensor:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch_loss(*arguments, **options)

    return dying


def killed_writing(call: int) -> Callable[[Snapshot, Path], None]:
    """A checkpoint as ever, but the process dies where that one is half written."""
    write, calls = Snapshot.write, itertools.count(1)

    def dying(snapshot: Snapshot, path: Path) -> None:
        write(snapshot, path)
        if next(calls) == call:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    return dying


def test_a_run_killed_between_stages_and_while_it_writes_a_checkpoint_ends_as_one_that_was_left_alone(
    store: Store, queued: Callable[[str], TrainingRunLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = queued("whole")
    assert run_to_its_end(whole, "alone") == runner.ENDED

    record = queued("killed")
    deaths: list[tuple[str, Any, str, Any, int]] = [
        ("first", fine_tune, "batch_loss", killed_at(4), 3),  # the first of the second stage
        ("second", Snapshot, "write", killed_writing(2), 4),  # of step 6, while the seventh may be computed
    ]
    for name, where, attribute, dying, step in deaths:
        with monkeypatch.context() as patch:
            patch.setattr(where, attribute, dying)
            assert run_to_its_end(record, name) == -signal.SIGKILL
        assert record.read().progress.checkpoint_step == step
        for key in list(store.objects.keys(f"heartbeats/{record.id}/")):
            store.objects.delete(key)  # as if the expiry had passed
    assert run_to_its_end(record, "third") == runner.ENDED

    run = record.read()
    assert (run.state, run.attempts) == (RUN_STATE_SUCCEEDED, 3)
    assert {kept.step: list(kept.reasons) for kept in kept_of(run.progress)} == {
        3: [KEPT_REASON_STAGE],
        8: [KEPT_REASON_NEWEST],
    }
    one, other = (
        load_file(store.blobs.fetch(resolve(store, name).checkpoint, tmp_path)) for name in ("whole", "killed")
    )
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    courses = [each.read().progress for each in (whole, record)]
    assert [point.step for point in courses[1].training] == list(range(1, 9))
    assert [point.loss for point in courses[1].validation] == pytest.approx(
        [point.loss for point in courses[0].validation], rel=1e-4
    )
