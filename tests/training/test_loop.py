"""The loop draws ahead, reads its numbers a step late and writes beside: what it makes is what a plain loop makes."""

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import Adapter, FineTune
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import FailedPrecondition
from luthier_kit.store import Store
from luthier_training import adapters
from luthier_training.base_model import BaseModel
from luthier_training.checkpoints import Progress
from luthier_training.dataset import read_manifest
from luthier_training.encoding import encode
from luthier_training.examples import draw_batch
from luthier_training.families import as_trained
from luthier_training.job import Job
from luthier_training.observations import Observer
from luthier_training.recipes import RECIPES, fine_tune
from luthier_training.reporting import Stopped
from luthier_training.snapshots import Buffers, Snapshot

from .test_fine_tune import TUNE, StopsAtFive, job, losses

RECIPE_KINDS: dict[str, dict[str, Any]] = {
    "all weights": {"accumulate": 2, "ema_decay": 0.9},
    "an adapter with dropout": {"adapter": Adapter(rank=4, dropout=0.3), "metadata_share": 0.5},
}


def opened(store: Store, base: ModelVersion, asked: Job, folder: Path) -> tuple[BaseModel, Any, Any]:
    model = BaseModel.open(store, base, "cpu", folder)
    return model, *encode(asked, model, read_manifest(store, asked.request.dataset))


@pytest.mark.parametrize("kind", RECIPE_KINDS.values(), ids=RECIPE_KINDS)
def test_weights_and_losses_are_to_the_bit_those_of_a_plain_loop(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, kind: dict[str, Any]
) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=5, **TUNE | {"samples": 0}, **kind))
    recipe, seed = asked.request.fine_tune, asked.request.seed
    found, train, held_out = opened(store, base, asked, tmp_path / "one")
    observer = Observer(asked, found.model, found.configuration, [])
    trained, _ = fine_tune.fit(asked, found.model, train, held_out, found.configuration, observer)

    other, train, _ = opened(store, base, asked, tmp_path / "other")
    plain, course = fine_tune.prepare(other.model, recipe, seed), []
    for step in range(recipe.steps):
        if plain.average is not None:
            plain.average.update()
        for group in plain.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * fine_tune.rate(step, recipe.steps, 0)
        plain.optimizer.zero_grad()
        loss = 0.0
        for number in range(step * recipe.accumulate, (step + 1) * recipe.accumulate):
            dropout, share = recipe.conditioning_dropout, recipe.metadata_share
            batch = draw_batch(train, number, recipe.batch_size, dropout, seed, share)
            adapters.seed_dropout(recipe.adapter, seed, number, 0)
            batch = as_trained(batch, other.configuration, seed, number)
            part = fine_tune.batch_loss(other.model, batch, recompute=False) / recipe.accumulate
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        torch.nn.utils.clip_grad_norm_(other.model.parameters(), 1.0)
        plain.optimizer.step()
        course.append(loss)

    assert losses(own.read().progress.training) == course
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(trained.model.state_dict()[name], tensor), name
    if plain.average is not None and trained.average is not None:
        for name, tensor in plain.average.state_dict().items():
            assert torch.equal(trained.average.state_dict()[name], tensor), name


def test_training_goes_on_while_a_checkpoint_is_written(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write of step 3 waits for the fifth step; what it holds is the third's."""
    batch_loss, write, calls, fifth = fine_tune.batch_loss, Snapshot.write, itertools.count(1), threading.Event()
    weights: dict[int, torch.Tensor] = {}

    def noted(model: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        call = next(calls)
        weights[call] = next(model.model.parameters()).detach().clone()  # before the step
        if call == 5:
            fifth.set()
        return batch_loss(model, *arguments, **options)

    def waiting(snapshot: Snapshot, path: Path) -> None:
        assert fifth.wait(60)
        write(snapshot, path)

    monkeypatch.setattr(fine_tune, "batch_loss", noted)
    monkeypatch.setattr(Snapshot, "write", waiting)
    tune = FineTune(steps=5, **TUNE | {"checkpoint_every": 3, "validate_every": 5, "samples": 0}, keep_every=3)
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=tune)
    found, *examples = opened(store, base, asked, tmp_path / "base")
    name, _ = next(found.model.model.named_parameters())
    train, held_out = examples
    observer = Observer(asked, found.model, found.configuration, [])
    fine_tune.fit(asked, found.model, train, held_out, found.configuration, observer)
    [kept] = own.read().progress.kept
    stored = load_file(store.blobs.fetch(kept.checkpoint, tmp_path))
    assert kept.step == 3
    assert torch.equal(stored[f"weights.model.{name}"], weights[4])
    assert not torch.equal(weights[4], weights[5])


def test_a_stop_waits_for_its_checkpoint(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Snapshot.write, list[str]()

    def noted(snapshot: Snapshot, path: Path) -> None:
        write(snapshot, path)
        written.append(path.name)

    monkeypatch.setattr(Snapshot, "write", noted)
    asked, own = job(store, dataset_ref, tmp_path / "a", reporter=StopsAtFive, fine_tune=FineTune(steps=8, **TUNE))
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](asked)
    left = own.read().progress
    assert (left.previous_checkpoint_step, left.checkpoint_step) == (3, 5)
    assert written == ["step-3.safetensors", "step-5.safetensors"]


@pytest.mark.parametrize("call", [1, 2])
def test_a_checkpoint_that_cannot_be_written_ends_the_run(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    call: int,
) -> None:  # fmt: skip
    """On the way, and at the end, where nothing comes that would look."""
    write, calls = Snapshot.write, itertools.count(1)

    def failing(snapshot: Snapshot, path: Path) -> None:
        if next(calls) == call:
            raise OSError(28, "No space left on device")
        write(snapshot, path)

    monkeypatch.setattr(Snapshot, "write", failing)
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=6, **TUNE))
    with pytest.raises(OSError, match="No space left"):
        RECIPES["fine_tune"](asked)
    assert own.read().progress.checkpoint_step == {1: 0, 2: 3}[call]


def test_a_loss_that_is_not_finite_is_told_by_its_own_step(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is seen a step late, and what was good before it is told."""
    batch_loss, calls = fine_tune.batch_loss, itertools.count(1)

    def spoiling(*arguments: Any, **options: Any) -> torch.Tensor:
        loss: torch.Tensor = batch_loss(*arguments, **options)
        return loss * torch.nan if next(calls) == 4 else loss

    monkeypatch.setattr(fine_tune, "batch_loss", spoiling)
    changes = {"checkpoint_every": 8, "validate_every": 8}
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=8, **TUNE | changes))
    with pytest.raises(FailedPrecondition, match="the loss is nan at step 4") as refused:
        RECIPES["fine_tune"](asked)
    assert refused.value.reason == "TRAINING_DIVERGED"
    assert [point.step for point in own.read().progress.training] == [1, 2, 3]
    assert not own.read().progress.checkpoint.key


def test_a_snapshot_stays_as_it_was_and_its_memory_is_used_again() -> None:
    buffers, weight, moment = Buffers(), torch.ones(3, 4).T, torch.ones(2, dtype=torch.float64)
    first = buffers.copy([("weight", weight)])
    weight.fill_(2)
    assert torch.equal(first["weight"], torch.ones(4, 3))
    assert first["weight"].is_contiguous()
    second = buffers.copy([("weight", weight), ("moment", moment)])
    assert second["weight"].data_ptr() == first["weight"].data_ptr()
    assert torch.equal(second["weight"], weight)
    assert (second["moment"].dtype, second["moment"].data_ptr() == moment.data_ptr()) == (torch.float64, False)
    third = buffers.copy([("weight", weight[:2])])
    assert third["weight"].shape == (2, 3)
    assert buffers.copy([]) == {}


def test_memory_that_was_reserved_is_copied_to() -> None:
    buffers = Buffers()
    buffers.reserve([("weight", (4, 3)), ("count", ())])
    count, weight = torch.tensor(3), torch.rand(4, 3)
    reserved = buffers._held["weight"].data_ptr()
    copied = buffers.copy([("weight", weight), ("count", count)])
    assert copied["weight"].data_ptr() == reserved
    assert torch.equal(copied["weight"], weight)
    assert (copied["count"].dtype, int(copied["count"])) == (torch.int64, 3)


def test_a_run_reserves_what_its_checkpoints_hold(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=8, **TUNE))
    found, *_ = opened(store, base, asked, tmp_path / "base")
    trained = fine_tune.prepare(found.model, asked.request.fine_tune)
    trained.reserve()
    reserved = {name: tensor.data_ptr() for name, tensor in trained.buffers._held.items()}
    for parameter in trained.gradients.parameters:
        parameter.grad = torch.randn_like(parameter)
    trained.optimizer.step()
    copied = trained.snapshot(Progress(1)).tensors
    large = {name for name, tensor in copied.items() if tensor.numel() > 1}
    assert large
    assert all(copied[name].data_ptr() == reserved[name] for name in large)
