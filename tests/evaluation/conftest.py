"""A store with two models, and the evaluation service beside loopback inference and analysis, over real gRPC."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier_evaluation import evaluate
from luthier_evaluation.conversion import checkpoints, clap, openl3, passt
from luthier_evaluation.conversion.checkpoints import Checkpoint
from luthier_evaluation.service import service
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.registry import ModelVersion, register
from luthier_kit.rpc import Channel
from luthier_kit.store import Store
from luthier_model.conversion.reader import opened
from tests.support.services import running, temp_store

sys.path.insert(0, str(Path(__file__).parent))

from loopback import Inference, analysis_service, follows_prompt, ignores_prompt, inference_service, loopback_inference


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_in(tmp_path) as opened:
        yield opened


@contextmanager
def store_in(folder: Path) -> Iterator[Store]:
    """A store with the models `base` and `tuned`."""
    with temp_store(folder / "store") as opened:
        for name in ("base", "tuned"):
            add_model(opened, name)
        yield opened


def add_model(store: Store, name: str, text: str = "") -> ModelVersion:
    """Register the next version of `name`, with weights that are only bytes."""
    weights = store.blobs.put_bytes("checkpoints", (text or name).encode(), "safetensors", "application/octet-stream")
    configuration = store.blobs.put_bytes("configurations", b"{}", "json", "application/json")
    return register(store, ModelVersion(name, weights, configuration, created_by="test", reason="test"))


@pytest.fixture
def pages() -> None:
    """Asked for by a test that reads the report, where `undrawn` is used."""


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are empty: drawing them takes more than half of the time of an evaluation of these rows."""
    if "pages" not in request.fixturenames:
        monkeypatch.setattr(evaluate, "render", lambda *_: "")


@dataclass
class Platform:
    """The three services. `evaluation` calls the one under test."""

    store: Store
    inference: Inference
    settings: EvaluationSettings
    evaluation: EvaluationServiceStub

    def create(self, request_id: str = "r1", **fields: object) -> pb.Evaluation:
        given: dict[str, Any] = {
            "candidate_model": "tuned", "baseline_model": "base", "suite_name": "quick", "seconds_total": 4.0, **fields,
        }  # fmt: skip
        request = pb.CreateEvaluationRequest(request_id=request_id, **{k: v for k, v in given.items() if v is not None})
        created: pb.CreateEvaluationResponse = self.evaluation.CreateEvaluation(request)
        return created.evaluation

    def wait(self, evaluation_id: str, timeout_s: float = 60) -> pb.Evaluation:
        request = pb.WatchEvaluationRequest(evaluation_id=evaluation_id)
        *_, last = self.evaluation.WatchEvaluation(request, timeout=timeout_s)
        return self.get(last.evaluation.evaluation_id)

    def get(self, evaluation_id: str) -> pb.Evaluation:
        request = pb.GetEvaluationRequest(evaluation_id=evaluation_id)
        found: pb.GetEvaluationResponse = self.evaluation.GetEvaluation(request)
        return found.evaluation

    def done(self, request_id: str = "r1", **fields: object) -> pb.Evaluation:
        return self.wait(self.create(request_id, **fields).evaluation_id)

    def promote(self, **fields: object) -> pb.PromoteModelResponse:
        given: dict[str, Any] = {
            "name": "current",
            "model": "tuned",
            "promoted_by": "ada",
            "reason": "it follows the prompt",
            **fields,
        }
        promoted: pb.PromoteModelResponse = self.evaluation.PromoteModel(pb.PromoteModelRequest(**given))
        return promoted


@pytest.fixture
def platform(store: Store, tmp_path: Path) -> Iterator[Platform]:
    with platform_of(store, tmp_path) as started:
        yield started


@contextmanager
def platform_of(store: Store, folder: Path) -> Iterator[Platform]:
    """The three services; a test that only reads may share them with others of its module."""
    inference = loopback_inference(store, base=ignores_prompt, tuned=follows_prompt)
    with ExitStack() as stack:
        settings = EvaluationSettings(
            address="127.0.0.1:0",
            inference_address=stack.enter_context(running(inference_service(inference))),
            analysis_address=stack.enter_context(running(analysis_service(store, folder))),
            retry_budget_s=3.0,
        )
        address = stack.enter_context(running(service(store, settings), settings))
        channel = stack.enter_context(Channel(address))
        yield Platform(store, inference, settings, EvaluationServiceStub(channel))


@pytest.fixture
def unsandboxed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints that a test wrote are opened in this process: starting the reader takes seconds. The reader itself is
    held by test_passt.py and tests/model/conversion.
    """

    def read(path: Path, choose: Callable[[Any], Any]) -> Checkpoint:
        file = opened(path)
        chosen = choose({name: tuple(tensor.shape) for name, tensor in file.tensors.items()})
        tensors = {name: file.tensors[stored].float() for name, stored in chosen.items()}
        left = checkpoints.counted(set(file.tensors) - set(chosen.values()), file.entries)
        return Checkpoint(tensors, "0" * 64, left)

    for module in (clap, openl3, passt):
        monkeypatch.setattr(module, "read_checkpoint", read)
