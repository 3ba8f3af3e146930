"""A checkpoint holds tensors by name and the numbers of the run, and brings both back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from luthier.training.v1.training_pb2 import FineTune, LossPoint
from luthier_model.configuration import Configuration
from luthier_model.loading import load
from luthier_training.checkpoints import Progress, Trained
from luthier_training.recipes.fine_tune import prepare

PROGRESS = Progress(3, [LossPoint(step=2, loss=0.5), LossPoint(step=3, loss=0.25)], [LossPoint(step=0, loss=1.5)])


@pytest.fixture
def fresh(known: Configuration, base_files: tuple[Path, Path]) -> Callable[[], Trained]:
    """A model that was not trained, with its average and optimiser."""
    return lambda: prepare(load(known, *base_files), FineTune(learning_rate=1e-2, ema_decay=0.9))


@pytest.fixture
def stepped(fresh: Callable[[], Trained]) -> Trained:
    """The same after two steps along a random gradient."""
    found = fresh()
    for seed in (1, 2):
        found.gradient.copy_(torch.randn(found.gradient.shape, generator=torch.Generator().manual_seed(seed)))
        assert found.average is not None
        found.average.update()
        found.optimizer.step()
    return found


def test_what_was_saved_is_restored(fresh: Callable[[], Trained], stepped: Trained, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    stepped.save(path, PROGRESS)
    restored = fresh()
    assert restored.restore(path) == PROGRESS
    assert stepped.average is not None
    assert restored.average is not None
    for name, tensor in stepped.model.state_dict().items():
        assert torch.equal(restored.model.state_dict()[name], tensor), name
    for name, tensor in stepped.average.state_dict().items():
        assert torch.equal(restored.average.state_dict()[name], tensor), name
    wanted = stepped.optimizer.state_dict()["state"]
    for index, moments in restored.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, torch.as_tensor(wanted[index][name])), (index, name)


def test_its_form_is_that_of_release_0_1(stepped: Trained, tmp_path: Path) -> None:
    stepped.save(tmp_path / "c.safetensors", PROGRESS)
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        names, numbers = list(file.keys()), json.loads(file.metadata()["progress"])
    assert numbers == {"step": 3, "training": [[2, 0.5], [3, 0.25]], "validation": [[0, 1.5]]}
    assert {name.split(".")[0] for name in names} == {"weights", "average", "optimizer"}
    assert {"average.step", "optimizer.0.exp_avg"} <= set(names)
    assert not any(name.startswith("weights.pretransform.") for name in names)


def test_all_gradients_are_views_into_one_buffer(stepped: Trained) -> None:
    parameters = [parameter for parameter in stepped.model.parameters() if parameter.requires_grad]
    stepped.gradient.fill_(2.0)
    assert all(bool((parameter.grad == 2.0).all()) for parameter in parameters)
    assert sum(parameter.numel() for parameter in parameters) == stepped.gradient.numel()
