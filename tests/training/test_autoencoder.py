"""The tiny autoencoder learns from the first steps and keeps silence silent."""

import torch

from luthier_model.random_weights import random_model
from luthier_training import autoencoder

from .conftest import tone


def clips():
    return [torch.from_numpy(tone(2.0, hz, 16000).T.copy()).float() for hz in (220, 330)]


def trained(known, steps, seed=0):
    losses = []
    model = random_model(known, 1).pretransform.model
    autoencoder.train(model, clips(), steps, 2, seed, lambda _, loss: losses.append(loss) or True)
    return model, losses


def test_the_loss_falls(known):
    _, losses = trained(known, 30)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_it_is_repeatable(known):
    assert trained(known, 3)[1] == trained(known, 3)[1]


def test_it_starts_with_clear_latents_of_unit_variance(known):
    model = random_model(known, 1).pretransform.model
    torch.manual_seed(0)
    autoencoder.start(model, autoencoder.crops(clips(), 4, torch.Generator().manual_seed(0)))
    crops = autoencoder.crops(clips(), 4, torch.Generator().manual_seed(0))
    mean, deviation = autoencoder.encode(model, crops)
    assert 0.5 < float(mean.std()) < 2
    assert float(deviation.mean()) < 0.2


def test_some_crops_hold_the_silence_behind_a_clip():
    batch = autoencoder.crops([torch.ones(2, 20_000)], 50, torch.Generator().manual_seed(0))
    ended = (batch[:, 0, -1] == 0).sum()
    assert 2 < int(ended) < 25


def test_it_stops_when_told(known):
    model = random_model(known, 1).pretransform.model
    assert not autoencoder.train(model, clips(), 5, 1, 0, lambda step, _: step < 2)
