"""deeprhythm: the operator's weights or none, checked before they are read, and never a silent answer.

The network runs where the extra is installed (`uv sync --extra deeprhythm`); its weights are drawn here.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from luthier_analysis.facts import Tempo
from luthier_analysis.features import tempo
from luthier_analysis.settings import Options, Weights

from .synth import click_track, sound

TRACK = sound(click_track(120, 17))


def measured(path: Path, sha256: str = "") -> Tempo:
    digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    found = tempo.measure(TRACK, Options("deeprhythm", Weights(path, digest)))
    assert found is not None
    return found


@pytest.fixture
def network() -> Any:
    torch = pytest.importorskip("torch", reason="the extra 'deeprhythm' is not installed")
    network = pytest.importorskip("deeprhythm.model.frame_cnn", reason="the extra 'deeprhythm' is not installed")
    torch.manual_seed(0)
    return network.DeepRhythmModel()


def test_without_the_extra_or_the_file_essentias_estimate_is_given_and_named(tmp_path: Path) -> None:
    found = measured(tmp_path / "absent.pth", "0" * 64)

    assert found.estimator.startswith("essentia/")
    assert found.note.startswith("deeprhythm gave no estimate: the ")


def test_without_weights_essentias_estimate_is_given_and_named() -> None:
    found = tempo.measure(TRACK, Options("deeprhythm", None))

    assert found is not None
    assert found.note == "deeprhythm gave no estimate: no weights are configured; this one is essentia's"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_operators_weights_are_used(network: Any, tmp_path: Path, suffix: str) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / f"weights{suffix}"
    save_file(network.state_dict(), path) if suffix == ".safetensors" else torch.save(network.state_dict(), path)

    found = measured(path)

    assert found.estimator == "deeprhythm/0.0.13"
    assert 30 <= found.tempo_bpm <= 285
    assert found.note == ""


def test_weights_of_another_digest_are_not_read(network: Any, tmp_path: Path) -> None:
    import torch

    torch.save(network.state_dict(), tmp_path / "weights.pth")

    assert "another SHA-256" in measured(tmp_path / "weights.pth", "0" * 64).note


class Mischief:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def test_a_pickle_that_runs_code_is_not_run(network: Any, tmp_path: Path) -> None:
    import torch

    torch.save({"weights": Mischief(str(tmp_path / "owned"))}, tmp_path / "weights.pth")

    assert "damaged" in measured(tmp_path / "weights.pth").note
    assert not (tmp_path / "owned").exists()


def test_nothing_is_downloaded(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    measured(tmp_path / "absent.pth", "0" * 64)

    assert list(tmp_path.iterdir()) == []
