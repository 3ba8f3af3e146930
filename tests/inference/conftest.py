"""A tiny model of random weights in a store of its own, served for real."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.app import build
from luthier_inference.settings import InferenceSettings
from luthier_kit.artifacts import Artifacts
from luthier_kit.models import ModelVersion, register
from luthier_kit.testing import running, temp_store
from luthier_model import configuration, tiny
from luthier_model.configuration import Configuration

PROMPTS = ["calm piano in D minor at 90 BPM", "loud drums and bass, funk, 120 BPM"]
WINDOW_LATENTS = 48


@dataclass(frozen=True)
class Parts:
    """The files that make a model."""

    configuration: Configuration
    weights: Path
    text: Path


def small_window() -> Configuration:
    """The tiny configuration with a shorter window, so that tests are quick."""
    document = copy.deepcopy(dict(tiny.configuration().document))
    document["sample_size"] = WINDOW_LATENTS * tiny.configuration().downsampling_ratio
    return configuration.check(document)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    known = small_window()
    weights, text = tiny.write_random(known, PROMPTS, tmp_path_factory.mktemp("model"), seed=1)
    awaken(weights)
    return Parts(known, weights, text)


def awaken(weights: Path) -> None:
    """Fills the branches that begin at zero, or an untrained model would hear neither prompt nor seconds."""
    import torch  # not before luthier_inference, which says how its threads wait
    from safetensors.torch import load_file, save_file

    generator, state = torch.Generator().manual_seed(2), load_file(weights)
    for name, tensor in state.items():
        if name.startswith("model.") and tensor.dim() > 1 and not tensor.any():
            state[name] = 0.05 * torch.randn(tensor.shape, generator=generator)
    save_file(state, weights, metadata={"format": "pt"})


def version_of(store: Artifacts, parts: Parts, name: str) -> ModelVersion:
    """A version whose blobs are stored, not yet registered."""
    document = json.dumps(dict(parts.configuration.document)).encode()
    return ModelVersion(
        name=name,
        checkpoint=store.put_file("checkpoints", parts.weights),
        configuration=store.put_bytes("configurations", document, "json", "application/json"),
        text_encoder=[(path.name, store.put_file("text-encoders", path)) for path in sorted(parts.text.iterdir())],
        created_by="test",
    )


def settings_for(folder: Path, **more: object) -> InferenceSettings:
    return InferenceSettings(
        device="cpu", address="127.0.0.1:0", store_folder=folder / "store", scratch=folder / "scratch", **more
    )


@dataclass(frozen=True)
class Served:
    """A running service: its store, its stub, its address."""

    store: Artifacts
    stub: inference_pb2_grpc.InferenceServiceStub
    address: str


@pytest.fixture(scope="session")
def served(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves `tiny` (one version), loaded on demand."""
    folder = tmp_path_factory.mktemp("served")
    settings = settings_for(folder, default_model="tiny")
    with temp_store(folder / "store") as store:
        register(store, version_of(store, parts, "tiny"))
        with running(build(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            yield Served(store, inference_pb2_grpc.InferenceServiceStub(channel), address)


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that is refused."""
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code(), refused.value.details()
