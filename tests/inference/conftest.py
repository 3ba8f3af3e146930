"""A tiny model of random weights in a store of its own, served for real."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.app import build_service
from luthier_inference.memory import Memory
from luthier_inference.scheduler import Scheduler
from luthier_inference.settings import InferenceSettings
from luthier_kit.registry import ModelVersion, register
from luthier_kit.rpc import Workload
from luthier_kit.store import Store
from luthier_model.adapter_mix import LoadedAdapter
from luthier_model.generation import LoadedModel
from tests.model.small import ModelFiles, small_model
from tests.support.services import running, temp_store

PROMPT = "calm piano in D minor at 90 BPM"


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return small_model(tmp_path_factory.mktemp("model"))


def version_of(store: Store, files: ModelFiles, name: str) -> ModelVersion:
    """A version whose blobs are stored, not yet registered."""
    document = json.dumps(dict(files.configuration.document)).encode()
    encoder = sorted(files.text_encoder.iterdir())
    return ModelVersion(
        name=name,
        checkpoint=store.blobs.put_file("checkpoints", files.weights),
        configuration=store.blobs.put_bytes("configurations", document, "json", "application/json"),
        text_encoder=[(path.name, store.blobs.put_file("text-encoders", path)) for path in encoder],
        created_by="test",
    )


def settings_for(folder: Path, **more: Any) -> InferenceSettings:
    return InferenceSettings(
        device="cpu", address="127.0.0.1:0", store_folder=folder / "store", scratch=folder / "scratch", **more
    )


def loads_no_adapter(version: ModelVersion, model: LoadedModel) -> LoadedAdapter:
    """For a cache whose models have none."""
    raise AssertionError(f"{version.label} is no adapter of {model.configuration}")


@contextmanager
def device(slots: int = 8, queue: int = 8, batch: int = 1, memory: int = 1 << 60) -> Iterator[Scheduler]:
    """A scheduler on the CPU with so many bytes of memory, closed at the end."""
    workload = Workload("luthier.inference.v1.InferenceService")
    scheduler = Scheduler(torch.device("cpu"), slots, queue, batch, workload, Memory(memory))
    try:
        yield scheduler
    finally:
        scheduler.close()


@dataclass(frozen=True)
class Served:
    """A running service: its store, its stub, its address."""

    store: Store
    stub: inference_pb2_grpc.InferenceServiceStub
    address: str


@contextmanager
def serving(model_files: ModelFiles, folder: Path) -> Iterator[Served]:
    """Serves `tiny` (one version), loaded on demand."""
    settings = settings_for(folder, default_model="tiny")
    with temp_store(folder / "store") as store:
        register(store, version_of(store, model_files, "tiny"))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            yield Served(store, inference_pb2_grpc.InferenceServiceStub(channel), address)


@pytest.fixture(scope="session")
def served(model_files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(model_files, tmp_path_factory.mktemp("served")) as served:
        yield served


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that is refused."""
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code(), refused.value.details() or ""


def request(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"prompt": PROMPT, "seconds_total": 1.0, "steps": 4, **fields})


@contextmanager
def long_job(served: Served, seed: int = 99) -> Iterator["grpc.CallIterator[pb.StreamGenerateResponse]"]:
    """The device at work on a thousand steps."""
    call = served.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(steps=1000, seed=seed)))
    try:
        next(iter(call))
        yield call
    finally:
        call.cancel()  # type: ignore[no-untyped-call]


@pytest.fixture
def crowded(model_files: ModelFiles, tmp_path: Path) -> Iterator[Served]:
    """One shares the device, one waits."""
    settings = settings_for(tmp_path, default_model="tiny", slots=1, queue=1)
    with temp_store(tmp_path / "store") as store:
        register(store, version_of(store, model_files, "tiny"))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            served = Served(store, inference_pb2_grpc.InferenceServiceStub(channel), address)
            served.stub.Generate(request(seed=1))  # what things cost is known
            yield served
