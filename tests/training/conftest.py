"""A data set of three short synthetic songs and a model small enough to train in seconds."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tensors this small gain nothing from threads

import numpy as np
import pytest
import soundfile
import torch
import yaml

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FineTune
from luthier_kit.registry import PROMOTED_FROM, ModelVersion, RunLog, register
from luthier_kit.store import Store, StoreSettings, open_store
from luthier_model import text_encoder, tiny
from luthier_model.configuration import Configuration, check, packaged
from luthier_training import audio, reconstruction
from luthier_training.base_model import BaseModel, Excerpt, StoredLatents
from luthier_training.checkpoints import Trained
from luthier_training.clip_encoder import ClipEncoder
from luthier_training.recipes import autoencoder
from luthier_training.requests import settle
from luthier_training.runs import KIND, TrainingRunLog
from tests.kubernetes_api import TEMPLATE, Api, kubeconfig

WINDOWS = (512, 128)
"""Of spectra, samples, where a test is about a run and not about its losses."""
WriteTemplate = Callable[..., Path]
SECONDS = (2.0, 1.6, 2.4)
SPLITS = ("train", "train", "validation")
FACTS: list[dict[str, Any]] = [
    {
        "duration_s": 2.0,
        "tempo": {"tempo_bpm": 120, "source": "FACT_SOURCE_TEMPO_MAP"},
        "key": {"tonic": "A", "mode": "MODE_MINOR", "source": "FACT_SOURCE_NOTES"},
        "instruments": [
            {"instrument": "Acoustic Grand Piano", "family": "Piano", "share": 0.9},
            {"instrument": "Drums", "family": "Drums", "share": 0.5},
            {"instrument": "Violin", "family": "Strings", "share": 0.03},
        ],
        "descriptors": [{"name": "onset_rate_hz", "value": 8}],
    },
    {
        "duration_s": 1.6,
        "tempo": {"tempo_bpm": 97},  # no source: nobody knows
        "estimated_tempo": {"tempo_bpm": 98, "source": "FACT_SOURCE_AUDIO"},
        "estimated_key": {"tonic": "C", "mode": "MODE_MAJOR", "source": "FACT_SOURCE_AUDIO"},
        "instruments": [{"instrument": "Flute", "family": "Pipe", "share": 1}],
        "solo": True,
    },
    {"duration_s": 2.4},
]
TAGS = [
    ["jazz", "sad", "1950s", "kind of blue", "miles davis", "female vocalists", "seen live"],
    ["so what", "flute"],
    [],
]
PROMPTS = ["A slow jazz ballad with piano", "Driving techno with synth bass", "Folk with guitar"]


@pytest.fixture(autouse=True)
def no_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests reports nothing of them."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(StoreSettings(store="folder", store_folder=tmp_path / "store"))


def tone(seconds: float, hz: float, rate_hz: int = 44100) -> np.ndarray:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    left = 0.4 * np.sin(2 * np.pi * hz * time) * (1 + np.sign(np.sin(2 * np.pi * 2 * time))) / 2
    return np.stack([left, 0.5 * left], axis=1)


def manifest(store: Store, folder: Path, **changes: Any) -> bytes:
    rows = []
    for index, (seconds, split, prompt) in enumerate(zip(SECONDS, SPLITS, PROMPTS, strict=True)):
        path = folder / f"clip{index}.flac"
        soundfile.write(path, tone(seconds, 220 * (index + 1)), 44100)
        ref = store.blobs.put_file("clips", path, "audio/flac")
        audio = {"bucket": "", "key": ref.key, "sha256": ref.sha256, "size_bytes": ref.size_bytes}
        rows.append(
            {
                "clip_id": f"c{index}",
                "split": split,
                "audio": audio,
                "prompts": [prompt, prompt.upper()],
                "song_fingerprint": f"song{index}",
                "facts": FACTS[index],
                "tags": [{"text": text, "weight": 1} for text in TAGS[index]],
                "source": {"song": {"artist": "Miles Davis", "title": "So What"}},
            }
        )
    document = {"format": "luthier.dataset.v1", "name": "three", "licences": ["CC0-1.0"], "rows": rows}
    return json.dumps({**document, **changes}).encode()


@pytest.fixture
def all_spectra() -> None:
    """Asked for by a test that trains an autoencoder by the losses of a release, where `few_spectra` is used."""


@pytest.fixture
def few_spectra(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autoencoders are trained by spectra of two windows in place of seven, and the memory of a step is not counted
    before: the two take four fifths of the time of such a run. Losses are held by test_reconstruction.py, the count by
    test_autoencoder_memory.py.
    """
    if "all_spectra" not in request.fixturenames:
        monkeypatch.setattr(reconstruction, "RESOLUTIONS", WINDOWS)
        monkeypatch.setattr(reconstruction, "DISCRIMINATOR_WINDOWS", WINDOWS)
        monkeypatch.setattr(autoencoder, "check_memory", lambda *_: None)


@pytest.fixture
def dataset_ref(store: Store, tmp_path: Path) -> ArtifactRef:
    return store.blobs.put_bytes("manifests", manifest(store, tmp_path), "json", "application/json")


@pytest.fixture(scope="session")
def known() -> Configuration:
    """The tiny configuration with a window of 4.1 s and one layer."""
    document = copy.deepcopy(dict(packaged("tiny").document))
    document["sample_size"] = 32 * 2048
    document["model"]["diffusion"]["config"].update(depth=1, embed_dim=32, num_heads=1, cond_token_dim=32)
    document["model"]["diffusion"]["config"]["global_cond_dim"] = 64
    document["model"]["conditioning"]["cond_dim"] = 32
    for side in ("encoder", "decoder"):
        document["model"]["pretransform"]["config"][side]["config"]["channels"] = 2
    return check(document)


@pytest.fixture(scope="session")
def base_files(known: Configuration, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny.write_random(known, PROMPTS, tmp_path_factory.mktemp("base"), seed=5)


@pytest.fixture
def base(store: Store, known: Configuration, base_files: tuple[Path, Path]) -> ModelVersion:
    """A registered base model of random weights."""
    return register_base(store, known, base_files)


def register_base(store: Store, known: Configuration, files: tuple[Path, Path], name: str = "base") -> ModelVersion:
    weights, text = files
    configuration = json.dumps(known.document).encode()
    return register(
        store,
        ModelVersion(
            name=name,
            checkpoint=store.blobs.put_file("checkpoints", weights),
            configuration=store.blobs.put_bytes("configurations", configuration, "json", "application/json"),
            text_encoder=tuple((p.name, store.blobs.put_file("text_encoders", p)) for p in text_encoder.files(text)),
            notes={"tiny": True},
        ),
    )


def gradient_of(trained: Trained) -> torch.Tensor:
    """All gradients of what is trained, after a backward pass, as one row."""
    return torch.cat([each.grad.flatten() for each in trained.gradients.parameters if each.grad is not None])


def encoder_of(base: BaseModel) -> ClipEncoder:
    return ClipEncoder(base.model, base.configuration, base.device)


def latents_of(base: BaseModel, excerpt: Excerpt, folder: Path) -> StoredLatents:
    """Latents of one clip, found or encoded; files below `folder`."""
    return base.latents(
        excerpt,
        lambda: audio.read(base.store.blobs.fetch(excerpt.clip.audio, folder), base.configuration),
        folder / "latents",
        lambda samples: encoder_of(base).encode(samples),
    )


def promote(store: Store, version: ModelVersion, name: str) -> ModelVersion:
    """The version as the current one of a promoted name."""
    notes = {**version.notes, PROMOTED_FROM: version.label}
    return register(store, replace(version, name=name, notes=notes, created_at=None, n=0), promotion=True)


def queued_tuning(store: Store, dataset_ref: ArtifactRef, request_id: str, **changes: Any) -> TrainingRunLog:
    """The log of a queued run of eight steps."""
    asked: dict[str, Any] = {
        "base_model": "base",
        "steps": 8,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "validate_every": 4,
    }
    tune = FineTune(**{**asked, "checkpoint_every": 8, **changes})
    request = CreateTrainingRunRequest(request_id=request_id, dataset=dataset_ref, model_name="tuned", fine_tune=tune)
    request.seed = 4
    return RunLog.create(store, KIND, request_id, settle(request))


@pytest.fixture
def template(tmp_path: Path) -> WriteTemplate:
    """A file with the Job of a run, changed as asked."""

    def write(document: Any = TEMPLATE) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        return path

    return write


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: WriteTemplate) -> Iterator[Api]:
    """The Job endpoints on loopback, and the environment that leads there."""
    found = Api()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(found.url, tmp_path / "kubeconfig")))
    monkeypatch.setenv("LUTHIER_TRAINING_LAUNCHER", "kubernetes")
    monkeypatch.setenv("LUTHIER_JOB_TEMPLATE", str(template()))
    monkeypatch.setenv("DEVICE", "cpu")
    yield found
    found.close()
