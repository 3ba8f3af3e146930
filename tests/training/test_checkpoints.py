"""A checkpoint holds tensors by name and the numbers of the run, and brings both back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from luthier.training.v1.training_pb2 import FineTune, LossPoint
from luthier_model.configuration import Configuration
from luthier_model.errors import CheckpointError
from luthier_model.loading import load
from luthier_training.checkpoints import Progress, Trained
from luthier_training.recipes.fine_tune import prepare

PROGRESS = Progress(3, [LossPoint(step=2, loss=0.5), LossPoint(step=3, loss=0.25)], [LossPoint(step=0, loss=1.5)])


@pytest.fixture(scope="module")
def fresh(known: Configuration, base_files: tuple[Path, Path]) -> Callable[[], Trained]:
    """A model that was not trained, with its average and optimiser."""
    return lambda: prepare(load(known, *base_files), FineTune(learning_rate=1e-2, ema_decay=0.9))


@pytest.fixture(scope="module")
def stepped(fresh: Callable[[], Trained]) -> Trained:
    """The same after two steps along a random gradient."""
    found = fresh()
    for seed in (1, 2):
        dice = torch.Generator().manual_seed(seed)
        for parameter in found.gradients.parameters:
            parameter.grad = torch.randn(parameter.shape, generator=dice)
        assert found.average is not None
        found.average.update()
        found.optimizer.step()
    return found


@pytest.fixture(scope="module")
def stored(stepped: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its checkpoint."""
    path = tmp_path_factory.mktemp("stored") / "c.safetensors"
    stepped.snapshot(PROGRESS).write(path)
    return path


@pytest.fixture(scope="module")
def refuse(fresh: Callable[[], Trained]) -> Callable[[Path, str], None]:
    """Asserts that a model refuses a checkpoint by these words, and is as it was; the same model for all of them."""
    trained, untouched = fresh(), fresh().model.state_dict()

    def refused(path: Path, words: str) -> None:
        with pytest.raises(CheckpointError, match=words):
            trained.restore(path)
        for name, tensor in untouched.items():
            assert torch.equal(trained.model.state_dict()[name], tensor), name
        assert not trained.optimizer.state_dict()["state"]

    return refused


def test_what_was_saved_is_restored(fresh: Callable[[], Trained], stepped: Trained, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    stepped.snapshot(PROGRESS).write(path)
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
    stepped.snapshot(PROGRESS).write(tmp_path / "c.safetensors")
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        names, numbers = list(file.keys()), json.loads(file.metadata()["progress"])
    assert numbers == {"step": 3, "training": [[2, 0.5], [3, 0.25]], "validation": [[0, 1.5]]}
    assert {name.split(".")[0] for name in names} == {"weights", "average", "optimizer"}
    assert {"average.step", "optimizer.0.exp_avg"} <= set(names)
    assert not any(name.startswith("weights.pretransform.") for name in names)


NUMBERS = {"step": 3, "training": [[2, 0.5], [3, 0.25]], "validation": [[0, 1.5]]}
LIES = {
    "absent": "",
    "no JSON": "{",
    "deep": "[" * 100_000 + "]" * 100_000,
    "many values": json.dumps({**NUMBERS, "more": [0] * 4_000_000}),
    "no object": "[]",
    "no step": json.dumps({name: value for name, value in NUMBERS.items() if name != "step"}),
    "a text for a step": json.dumps({**NUMBERS, "step": "three"}),
    "a negative step": json.dumps({**NUMBERS, "step": -1}),
    "before the first step": json.dumps({**NUMBERS, "step": 0}),
    "a step beyond all bounds": json.dumps({**NUMBERS, "step": 2**40}),
    "no losses": json.dumps({**NUMBERS, "training": None}),
    "a loss that is a text": json.dumps({**NUMBERS, "training": [[1, "low"]]}),
    "a loss without a step": json.dumps({**NUMBERS, "validation": [[0.5]]}),
    "losses of steps to come": json.dumps({**NUMBERS, "training": [[4, 0.5]]}),
    "losses out of order": json.dumps({**NUMBERS, "training": [[3, 0.25], [2, 0.5]]}),
}


@pytest.mark.parametrize("text", LIES.values(), ids=LIES)
def test_numbers_that_cannot_be_are_refused_and_nothing_is_changed(
    refuse: Callable[[Path, str], None], stored: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "c.safetensors"
    save_file(load_file(stored), path, metadata={"format": "pt", "progress": text})
    refuse(path, "its numbers")


@pytest.mark.parametrize("prefix", ["weights.", "average.", "optimizer.0.exp_avg"])
@pytest.mark.parametrize("change", ["absent", "another shape", "of another name"])
def test_tensors_of_another_model_are_named(
    refuse: Callable[[Path, str], None], stored: Path, tmp_path: Path, prefix: str, change: str
) -> None:
    path = tmp_path / "c.safetensors"
    tensors = load_file(stored)
    name = next(name for name in sorted(tensors) if name.startswith(prefix) and tensors[name].numel() > 1)
    changed = tensors.pop(name)
    if change == "another shape":
        tensors[name] = changed.flatten()[:-1].clone()
    elif change == "of another name":
        tensors[f"{prefix.split('.')[0]}.other"] = changed
    save_file(tensors, path, metadata={"format": "pt", "progress": json.dumps(NUMBERS)})
    refuse(path, r"[12] tensors are not those of the model")


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 64])
def test_what_is_no_checkpoint_is_refused(refuse: Callable[[Path, str], None], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.safetensors").write_bytes(content)
    refuse(tmp_path / "c.safetensors", "")
