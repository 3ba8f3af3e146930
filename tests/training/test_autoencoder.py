"""An autoencoder, or its decoder alone, learns from held-back sound, and the version says what its transformer is worth."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import FineTune, TrainAutoencoder
from luthier_kit.registry import TRANSFORMER, UNFIT, ModelVersion, refuse_unfit, register
from luthier_kit.rpc import FailedPrecondition, InvalidRequest
from luthier_kit.store import Store
from luthier_model import checkpoint
from luthier_model.configuration import Configuration
from luthier_model.network import random_model
from luthier_training.autoencoder_state import Trained
from luthier_training.base_model import BaseModel
from luthier_training.ranks import Ranks
from luthier_training.recipes import RECIPES, autoencoder, tiny_base
from luthier_training.reconstruction import SpectralLoss, make_discriminator
from luthier_training.reporting import Stopped

from .conftest import manifest, register_base
from .test_fine_tune import StopsAtFive, job
from .test_tiny_base import clips

Tensors = dict[str, torch.Tensor]
SHORT: dict[str, Any] = {
    "base_model": "base",
    "batch_size": 2,
    "window_samples": 4096,
    "learning_rate": 3e-3,
    "discriminator_learning_rate": 3e-3,
    "discriminator_filters": 2,
    "discriminator_warmup_steps": 2,
    "validate_every": 4,
    "checkpoint_every": 3,
}
DECODER, ENCODER = checkpoint.DECODER, "pretransform.model.encoder."


@pytest.fixture(scope="session")
def learnt_files(
    known: Configuration, base_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Weights whose autoencoder has learnt a little, and their text encoder."""
    model, weights = random_model(known, 5), tmp_path_factory.mktemp("learnt") / "weights.safetensors"
    tiny_base.train(model.pretransform.model, clips(), 30, 2, 0, lambda *_: True)
    checkpoint.write(weights, model.state_dict(), {"format": "pt"})
    return weights, base_files[1]


@pytest.fixture
def base(store: Store, known: Configuration, learnt_files: tuple[Path, Path]) -> ModelVersion:
    return register_base(store, known, learnt_files)


def weights(store: Store, version: ModelVersion, folder: Path) -> Tensors:
    found: Tensors = load_file(store.blobs.fetch(version.checkpoint, folder))
    return found


def differing(one: Tensors, other: Tensors) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


def test_a_decoder_learns_and_nothing_else_changes(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", autoencoder=TrainAutoencoder(steps=24, **SHORT))
    version = RECIPES["autoencoder"](asked)

    told = own.read().progress
    assert told.validation[0].step == 0
    assert told.validation[-1].loss < 0.9 * told.validation[0].loss
    assert [point.step for point in told.fidelity] == [point.step for point in told.validation]
    assert told.fidelity[-1].mel < told.fidelity[0].mel
    assert len(told.discriminator) == 24
    changed = differing(weights(store, base, tmp_path), weights(store, version, tmp_path))
    assert changed
    assert all(name.startswith(DECODER) for name in changed)
    assert version.configuration == base.configuration
    assert version.notes["trained"] == "decoder"
    refuse_unfit(version)


def test_latents_that_were_cached_are_those_of_the_new_decoder(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that an earlier release stored, which named them by the whole autoencoder."""
    tune = FineTune(base_model="base", steps=1, batch_size=1)
    with monkeypatch.context() as earlier:
        earlier.setattr(BaseModel, "encoder_digest", property(lambda self: self.autoencoder_digest), raising=False)
        before, _ = job(store, dataset_ref, tmp_path / "before", "before", fine_tune=tune)
        opened = BaseModel.open(store, base, "cpu", tmp_path / "open")
    asked, _ = job(store, dataset_ref, tmp_path / "a", autoencoder=TrainAutoencoder(steps=2, **SHORT))
    version = register(store, RECIPES["autoencoder"](asked))
    assert version.autoencoder_digest != opened.autoencoder_digest
    assert before


def test_an_encoder_learns_too_and_the_transformer_is_said_not_to_fit(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    recipe = TrainAutoencoder(steps=4, decoder_only=False, **SHORT)
    asked, _ = job(store, dataset_ref, tmp_path / "a", autoencoder=recipe)
    version = register(store, RECIPES["autoencoder"](asked))
    changed = differing(weights(store, base, tmp_path), weights(store, version, tmp_path))
    assert any(name.startswith(ENCODER) for name in changed)
    assert all(name.startswith(checkpoint.AUTOENCODER) for name in changed)
    assert version.notes[TRANSFORMER] == UNFIT
    with pytest.raises(FailedPrecondition, match="fine-tune it") as refused:
        refuse_unfit(version)
    assert refused.value.reason == "TRANSFORMER_UNFIT"

    opened = BaseModel.open(store, version, "cpu", tmp_path / "open")
    crops = torch.stack([clip[:, :16384] for clip in clips()])
    assert 0.3 < float(opened.encode(crops[0]).mean.std()) < 3

    tune = FineTune(base_model="tuned", steps=1, batch_size=1)
    second, _ = job(store, dataset_ref, tmp_path / "b", "tune", fine_tune=tune)
    refuse_unfit(RECIPES["fine_tune"](second))
