"""The tiny autoencoder learns from the first steps and keeps silence silent; what comes out is a model that loads."""

from pathlib import Path

import torch
from stable_audio_tools.models.autoencoders import AudioAutoencoder

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import TinyBase
from luthier_kit.registry import register, resolve
from luthier_kit.store import Store
from luthier_model.configuration import Configuration
from luthier_model.network import random_model
from luthier_training.base_model import BaseModel, posterior_of
from luthier_training.recipes import RECIPES, tiny_base

from .conftest import tone
from .test_fine_tune import job


def clips() -> list[torch.Tensor]:
    return [torch.from_numpy(tone(2.0, hz, 16000).T.copy()).float() for hz in (220, 330)]


def trained(known: Configuration, steps: int, seed: int = 0) -> tuple[AudioAutoencoder, list[float]]:
    losses: list[float] = []

    def report(_: int, loss: float) -> bool:
        losses.append(loss)
        return True

    model = random_model(known, 1).pretransform.model
    tiny_base.train(model, clips(), steps, 2, seed, report)
    return model, losses


def test_the_loss_falls(known: Configuration) -> None:
    _, losses = trained(known, 30)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_it_is_repeatable(known: Configuration) -> None:
    assert trained(known, 3)[1] == trained(known, 3)[1]


def test_it_starts_with_clear_latents_of_unit_variance(known: Configuration) -> None:
    model = random_model(known, 1).pretransform.model
    torch.manual_seed(0)
    tiny_base.start(model, tiny_base.crops(clips(), 4, torch.Generator().manual_seed(0)))
    crops = tiny_base.crops(clips(), 4, torch.Generator().manual_seed(0))
    mean, deviation = posterior_of(model, crops)
    assert 0.5 < float(mean.std()) < 2
    assert float(deviation.mean()) < 0.2


def test_some_crops_hold_the_silence_behind_a_clip() -> None:
    batch = tiny_base.crops([torch.ones(2, 20_000)], 50, torch.Generator().manual_seed(0))
    ended = (batch[:, 0, -1] == 0).sum()
    assert 2 < int(ended) < 25


def test_it_stops_when_asked_to(known: Configuration) -> None:
    model = random_model(known, 1).pretransform.model
    assert not tiny_base.train(model, clips(), 5, 1, 0, lambda step, _: step < 2)


def test_the_result_is_a_model_that_loads(store: Store, dataset_ref: ArtifactRef, tmp_path: Path) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", tiny_base=TinyBase(autoencoder_steps=2, batch_size=1))
    version = register(store, RECIPES["tiny_base"](asked))
    opened = BaseModel.open(store, resolve(store, "tuned"), "cpu", tmp_path / "open")
    assert opened.autoencoder_digest == version.autoencoder_digest
    assert opened.configuration.document["model"]["pretransform"]["scale"] != 1.0
    assert [point.step for point in own.read().progress.training] == [1, 2]
