"""A store with two models, and the evaluation service beside loopback inference and analysis, over real gRPC."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier_evaluation.service import service
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.artifacts import Artifacts
from luthier_kit.client import Client
from luthier_kit.models import ModelVersion, register
from luthier_kit.testing import running, temp_store

sys.path.insert(0, str(Path(__file__).parent))

from loopback import Analysis, Inference, analysis_service, deaf, inference_service, obeys


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Artifacts]:
    with temp_store(tmp_path / "store") as opened:
        for name in ("base", "tuned"):
            add_model(opened, name)
        yield opened


def add_model(store: Artifacts, name: str, text: str = "") -> ModelVersion:
    """Register the next version of `name`, with weights that are only bytes."""
    weights = store.put_bytes("checkpoints", (text or name).encode(), "safetensors", "application/octet-stream")
    configuration = store.put_bytes("configurations", b"{}", "json", "application/json")
    return register(store, ModelVersion(name, weights, configuration, created_by="test", reason="test"))


@dataclass
class Platform:
    """The three services. `evaluation` calls the one under test."""

    store: Artifacts
    inference: Inference
    settings: EvaluationSettings
    evaluation: Client

    def create(self, request_id: str = "r1", **fields: object) -> pb.Evaluation:
        given = {"candidate_model": "tuned", "baseline_model": "base", "suite_name": "quick", "seconds_total": 4.0}
        given |= fields
        request = pb.CreateEvaluationRequest(request_id=request_id, **{k: v for k, v in given.items() if v is not None})
        return self.evaluation.call("CreateEvaluation", request).evaluation

    def wait(self, evaluation_id: str) -> pb.Evaluation:
        request = pb.WatchEvaluationRequest(evaluation_id=evaluation_id)
        *_, last = self.evaluation.stream("WatchEvaluation", request, timeout_s=60)
        return self.get(last.evaluation.evaluation_id)

    def get(self, evaluation_id: str) -> pb.Evaluation:
        request = pb.GetEvaluationRequest(evaluation_id=evaluation_id)
        return self.evaluation.call("GetEvaluation", request).evaluation

    def done(self, request_id: str = "r1", **fields: object) -> pb.Evaluation:
        return self.wait(self.create(request_id, **fields).evaluation_id)

    def promote(self, **fields: object) -> pb.PromoteModelResponse:
        given = {"name": "current", "model": "tuned", "promoted_by": "ada", "reason": "it listens", **fields}
        return self.evaluation.call("PromoteModel", pb.PromoteModelRequest(**given))


@pytest.fixture
def platform(store: Artifacts, tmp_path: Path) -> Iterator[Platform]:
    inference = Inference(store, {"base": deaf, "tuned": obeys})
    with ExitStack() as stack:
        settings = EvaluationSettings(
            address="127.0.0.1:0",
            inference_address=stack.enter_context(running(inference_service(inference))),
            analysis_address=stack.enter_context(running(analysis_service(Analysis(store, tmp_path)))),
            patience_s=3.0,
        )
        client = Client(stack.enter_context(running(service(store, settings), settings)), EvaluationServiceStub)
        yield Platform(store, inference, settings, client)
        client.close()
