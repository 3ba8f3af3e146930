"""Checkpoints that stable-audio-tools' own training writes, by Lightning, become what `register` takes."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from safetensors.torch import load_file
from stable_audio_tools.models.factory import create_model_from_config
from stable_audio_tools.training.factory import create_training_wrapper_from_config

from luthier_model.conversion.convert import Sources, convert
from luthier_model.conversion.report import Report
from luthier_model.loading import load
from tests.model.small import WINDOW_LATENTS, ModelFiles, small_model

State = dict[str, torch.Tensor]
STEPS = 3


@dataclass(frozen=True)
class Trained:
    """What a training of a few steps left: `wrapped` by Lightning, `exported` as unwrap_model.py does, and what is in
    them, by the training's own objects.
    """

    files: ModelFiles
    config: Path
    wrapped: Path
    exported: Path
    online: State
    average: State


class Latents(torch.utils.data.Dataset[tuple[torch.Tensor, dict[str, Any]]]):
    """Encoded clips with their metadata, as the library's own data sets give them."""

    def __len__(self) -> int:
        return 2 * STEPS

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        if index >= len(self):
            raise IndexError(index)
        clip = torch.randn(32, WINDOW_LATENTS, generator=torch.Generator().manual_seed(index))
        heard = [torch.ones(WINDOW_LATENTS, dtype=torch.bool)]
        return clip, {"prompt": "calm piano", "seconds_start": 0, "seconds_total": 3, "padding_mask": heard}


def batch(rows: list[tuple[torch.Tensor, dict[str, Any]]]) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    return torch.stack([clip for clip, _ in rows]), [metadata for _, metadata in rows]


def trainer(folder: Path) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu", max_steps=STEPS, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip


def copied(state: dict[str, Any]) -> State:
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    files = small_model(folder)
    config = folder / "model_config.json"
    document = copy.deepcopy(dict(files.configuration.document))
    config.write_text(json.dumps(document))
    model = load(files.configuration, files.weights, files.text_encoder)
    model.train().requires_grad_(True)
    model.pretransform.requires_grad_(False)
    adam = {"optimizer": {"type": "AdamW", "config": {"lr": 1e-2}}}
    document["training"] = {"pre_encoded": True, "optimizer_configs": {"diffusion": adam}}
    wrapper = create_training_wrapper_from_config(document, model)
    fit = trainer(folder)
    fit.fit(wrapper, torch.utils.data.DataLoader(Latents(), batch_size=2, collate_fn=batch))
    fit.save_checkpoint(folder / "wrapped.ckpt")
    online = copied(wrapper.diffusion.state_dict())
    wrapper.export_model(folder / "exported.ckpt")  # replaces the trained transformer by its average
    average = copied(wrapper.diffusion.state_dict())
    return Trained(files, config, folder / "wrapped.ckpt", folder / "exported.ckpt", online, average)


@pytest.fixture(scope="module")
def autoencoder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, State]:
    """(wrapped, exported, the average) of an autoencoder that is trained alone, with discriminator and average."""
    folder = tmp_path_factory.mktemp("autoencoder")
    document = dict(trained.files.configuration.document)
    alone = {name: document[name] for name in ("sample_rate", "sample_size", "audio_channels")}
    alone |= {"model_type": "autoencoder", "model": document["model"]["pretransform"]["config"]}
    alone["training"] = {"use_ema": True, "learning_rate": 1e-4}
    wrapper = create_training_wrapper_from_config(alone, create_model_from_config(alone))
    for _ in range(3):
        for tensor in wrapper.autoencoder.parameters():
            tensor.data += 0.01
        wrapper.autoencoder_ema.update()
    saving = trainer(folder)
    saving.strategy.connect(wrapper)
    saving.save_checkpoint(folder / "wrapped.ckpt")
    wrapper.export_model(folder / "exported.ckpt")
    average = copied(wrapper.autoencoder_ema.ema_model.state_dict())
    return folder / "wrapped.ckpt", folder / "exported.ckpt", average


def converted(trained: Trained, out: Path, path: Path, **how: Any) -> tuple[State, Report]:
    report = convert(Sources(path, trained.config, **how), out)
    return load_file(out / "weights.safetensors"), report


def same(found: State, wanted: State) -> bool:
    return set(found) == set(wanted) and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_training_moved_the_weights_and_their_average_apart(trained: Trained) -> None:
    """Else the tests below could not tell one from the other."""
    moved = [name for name in trained.online if not torch.equal(trained.online[name], trained.average[name])]
    assert moved
    assert all(name.startswith("model.") for name in moved)


def test_a_training_checkpoint_gives_what_the_library_exports(trained: Trained, tmp_path: Path) -> None:
    found, report = converted(trained, tmp_path / "out", trained.wrapped)
    assert same(found, trained.average)
    assert report.weights.startswith(f"moving average of {STEPS} updates")
    assert (report.found[0].container, report.found[0].step) == ("lightning", STEPS)
    assert "optimizer_states" in report.left_out


def test_or_what_was_trained(trained: Trained, tmp_path: Path) -> None:
    found, _ = converted(trained, tmp_path / "out", trained.wrapped, weights="online")
    assert same(found, trained.online)


def test_what_the_library_exported_is_taken_as_it_is(trained: Trained, tmp_path: Path) -> None:
    found, report = converted(trained, tmp_path / "out", trained.exported)
    assert same(found, trained.average)
    assert not report.found[0].layout.wrapper


@pytest.mark.parametrize("file", [0, 1], ids=["wrapped", "exported"])
def test_an_autoencoder_of_its_own_file_is_put_in(
    trained: Trained, autoencoder: tuple[Path, Path, State], tmp_path: Path, file: int
) -> None:
    found, report = converted(trained, tmp_path / "out", trained.wrapped, autoencoder=autoencoder[file])
    encoder = {f"pretransform.model.{name}": tensor for name, tensor in autoencoder[2].items()}
    assert same({name: found[name] for name in encoder}, encoder)
    assert same(
        {n: t for n, t in found.items() if n not in encoder},
        {n: t for n, t in trained.average.items() if n not in encoder},
    )
    assert len(report.notes) >= 2


def test_half_precision_loads_and_computes(trained: Trained, tmp_path: Path) -> None:
    state = torch.load(trained.exported, weights_only=True)["state_dict"]
    torch.save({"state_dict": {name: tensor.half() for name, tensor in state.items()}}, tmp_path / "half.ckpt")
    converted(trained, tmp_path / "out", tmp_path / "half.ckpt")
    model = load(trained.files.configuration, tmp_path / "out/weights.safetensors", trained.files.text_encoder)
    with torch.no_grad():
        audio = model.pretransform.decode(torch.zeros(1, 32, 4))
    assert audio.isfinite().all()
    assert audio.dtype == torch.float32
