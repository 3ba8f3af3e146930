"""A run that trains an autoencoder is gone on with by another, and exports its best where that is asked for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    KEPT_REASON_BEST,
    ContinueFrom,
    CreateTrainingRunRequest,
    TrainAutoencoder,
)
from luthier_kit.registry import ModelVersion, resolve
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.store import Store
from luthier_model import checkpoint
from luthier_training.continuing import check_autoencoder
from luthier_training.kept import kept_of
from luthier_training.recipes import RECIPES, autoencoder
from luthier_training.reporting import Stopped
from luthier_training.requests import settle
from luthier_training.runs import TrainingRunLog

from .conftest import queued_tuning, register_base
from .test_autoencoder import SHORT, differing, weights
from .test_fine_tune import StopsAtFive, job

pytestmark = pytest.mark.usefixtures("few_spectra")
RECIPE: dict[str, Any] = {**SHORT, "steps": 8}


@pytest.fixture
def cancelled(store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path) -> TrainingRunLog:
    """The log of a run that was cancelled after five steps of eight."""
    asked, own = job(
        store, dataset_ref, tmp_path / "before", "before", StopsAtFive, autoencoder=TrainAutoencoder(**RECIPE)
    )
    with pytest.raises(Stopped):
        RECIPES["autoencoder"](asked)
    own.cancel("ann", "enough")
    own.cancelled()
    own.heartbeat.stop()
    return own


def going_on(run: TrainingRunLog, **changes: Any) -> TrainAutoencoder:
    return TrainAutoencoder(**{**RECIPE, "continue_from": ContinueFrom(run_id=run.id, same_plan=True), **changes})


def checked(store: Store, dataset: ArtifactRef, recipe: TrainAutoencoder, seed: int = 4) -> None:
    """What the service checks of a run that would go on with another."""
    request = CreateTrainingRunRequest(request_id="a", dataset=dataset, model_name="m", seed=seed, autoencoder=recipe)
    asked = settle(request)
    check_autoencoder(store, asked, resolve(store, asked.autoencoder.base_model))


def test_a_cancelled_run_goes_on_to_the_weights_of_one_that_was_not(
    store: Store, dataset_ref: ArtifactRef, cancelled: TrainingRunLog, tmp_path: Path
) -> None:
    whole, own = job(store, dataset_ref, tmp_path / "whole", "whole", autoencoder=TrainAutoencoder(**RECIPE))
    wanted, course = weights(store, RECIPES["autoencoder"](whole), tmp_path), own.read().progress
    checked(store, dataset_ref, going_on(cancelled, validate_every=8, checkpoint_every=8))
    after, own = job(store, dataset_ref, tmp_path / "after", "after", autoencoder=going_on(cancelled))
    version = RECIPES["autoencoder"](after)
    assert not differing(weights(store, version, tmp_path), wanted)
    progress = own.read().progress
    assert list(progress.training) == list(course.training)
    assert list(progress.fidelity) == list(course.fidelity)
    assert progress.continued_from.step == 5
    assert version.notes["continued_from"] == [{"run": cancelled.id}]


def test_the_best_is_exported(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validated before the first step and after 4, 8 and 12; the lowest is that of 4, but for the base's own."""
    found = iter([[0.1, 1.0, 1.0], [0.5, 1.0, 1.0], [0.9, 1.0, 1.0], [0.7, 1.0, 1.0]])
    monkeypatch.setattr(autoencoder, "measured", lambda *_: next(found))
    recipe = TrainAutoencoder(**{**SHORT, "steps": 12, "ema_decay": 0}, export=EXPORTED_WEIGHTS_BEST_BY_VALIDATION)
    asked, own = job(store, dataset_ref, tmp_path / "a", autoencoder=recipe)
    version = RECIPES["autoencoder"](asked)
    assert (version.notes["exported"], version.notes["exported_step"]) == ("best", 4)
    assert version.notes["exported_validation"] == 0.5
    [best] = [each for each in kept_of(own.read().progress) if KEPT_REASON_BEST in each.reasons]
    stored = load_file(store.blobs.fetch(best.checkpoint, tmp_path))
    exported = weights(store, version, tmp_path)
    decoder = {name: each for name, each in exported.items() if name.startswith(checkpoint.DECODER)}
    assert decoder
    for name, tensor in decoder.items():
        assert torch.equal(tensor, stored[f"network.decoder.{name.removeprefix(checkpoint.DECODER)}"])
    assert differing(exported, weights(store, base, tmp_path))


def test_the_last_is_exported_unless_the_best_is_asked_for(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", autoencoder=TrainAutoencoder(**RECIPE))
    notes = RECIPES["autoencoder"](asked).notes
    assert (notes["exported"], notes["exported_step"]) == ("last", 8)
    assert not own.read().progress.kept


def test_what_would_change_a_weight_must_be_as_it_was(
    store: Store, dataset_ref: ArtifactRef, cancelled: TrainingRunLog
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked(store, dataset_ref, going_on(cancelled, steps=9, learning_rate=1e-5), seed=5)
    assert set(dict(refused.value.violations)) >= {"seed", "autoencoder.steps", "autoencoder.learning_rate"}


def test_training_on_from_a_checkpoint_is_not_offered(dataset_ref: ArtifactRef, cancelled: TrainingRunLog) -> None:
    recipe = going_on(cancelled, continue_from=ContinueFrom(run_id=cancelled.id))
    request = CreateTrainingRunRequest(request_id="a", dataset=dataset_ref, model_name="m", autoencoder=recipe)
    with pytest.raises(InvalidRequest) as refused:
        settle(request)
    assert list(dict(refused.value.violations)) == ["autoencoder.continue_from.same_plan"]


def test_what_cannot_be_gone_on_with_is_refused(
    store: Store, known: Any, base_files: tuple[Path, Path], dataset_ref: ArtifactRef, cancelled: TrainingRunLog
) -> None:
    source = ContinueFrom(run_id=cancelled.id, step=4, same_plan=True)
    with pytest.raises(NotFound) as gone:
        checked(store, dataset_ref, going_on(cancelled, continue_from=source))
    assert gone.value.reason == "CHECKPOINT_NOT_KEPT"
    tuning = queued_tuning(store, dataset_ref, "tuning")
    with pytest.raises(InvalidRequest) as other:
        checked(store, dataset_ref, going_on(tuning))
    assert (
        dict(other.value.violations)["autoencoder.continue_from.run_id"] == "must be a run that trains an autoencoder"
    )
    weights_of, text = base_files
    model = load_file(weights_of)
    name = next(iter(model))
    changed = weights_of.with_name("other.safetensors")
    checkpoint.write(changed, {**model, name: model[name] + 1})
    register_base(store, known, (changed, text), "second")
    with pytest.raises(FailedPrecondition) as base:
        checked(store, dataset_ref, going_on(cancelled, base_model="second"))
    assert base.value.reason == "CONTINUES_ANOTHER_BASE"
