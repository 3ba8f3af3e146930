"""Runners of a run with stages are killed, without a warning, between two stages and inside the second."""

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
from luthier_training.examples import Batch, draw_batch
from luthier_training.kept import kept_of
from luthier_training.recipes import fine_tune
from luthier_training.requests import settle
from luthier_training.runs import KIND, TrainingRunLog

from .data_sets import LARGE, SMALL, put

Draw = Callable[..., Batch]
TEST, MAIN = 2, 4
"""Clips in a batch of each stage, by which a draw is told apart."""


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
        TrainingStage(name="test", steps=3, batch_size=TEST, data=[StageData(dataset=small)]),
        TrainingStage(
            name="main", steps=5, batch_size=MAIN, data=[StageData(dataset=large, share=3), StageData(dataset=small)]
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


def killed_at(draw: tuple[int, int]) -> Draw:
    """Draws as ever, but dies at the batch of that size and number."""

    def dying(examples: Any, number: int, batch_size: int, *rest: Any) -> Batch:
        if (batch_size, number) == draw:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw_batch(examples, number, batch_size, *rest)

    return dying


def test_a_run_whose_runners_are_killed_between_stages_and_inside_one_ends_as_one_that_was_left_alone(
    store: Store, queued: Callable[[str], TrainingRunLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = queued("whole")
    assert run_to_its_end(whole, "alone") == runner.ENDED

    record = queued("killed")
    for name, draw, step in (("first", (MAIN, 0), 3), ("second", (MAIN, 4), 6)):
        monkeypatch.setattr(fine_tune, "draw_batch", killed_at(draw))
        assert run_to_its_end(record, name) == -signal.SIGKILL
        assert record.read().progress.checkpoint_step == step
        for key in list(store.objects.keys(f"heartbeats/{record.id}/")):
            store.objects.delete(key)  # as if the expiry had passed
    monkeypatch.setattr(fine_tune, "draw_batch", draw_batch)
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
