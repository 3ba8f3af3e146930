"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1 import training_pb2 as pb
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import Service
from luthier_kit.store import Store
from luthier_training.launchers.local import LocalLauncher
from luthier_training.scheduler import Scheduler
from luthier_training.service import TrainingServicer
from luthier_training.settings import TrainingSettings
from tests.support.fuzz import attack
from tests.support.services import running


@pytest.mark.parametrize("per_class", [None, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(
    store: Store, dataset_ref: ArtifactRef, base: ModelVersion, per_class: int | None
) -> None:
    unknown = "training-" + "0" * 32
    tune = pb.FineTune(
        base_model=base.name,
        steps=8,
        batch_size=2,
        learning_rate=1e-3,
        conditioning_dropout=0.1,
        validate_every=4,
        checkpoint_every=8,
        ema_decay=0.9,
        warmup_steps=1,
        accumulate=1,
        min_excerpt_s=1,
    )
    examples = {
        "CreateTrainingRun": pb.CreateTrainingRunRequest(
            request_id="fuzz", dataset=dataset_ref, model_name="tuned", created_by="ann", seed=1, fine_tune=tune
        ),
        "GetTrainingRun": pb.GetTrainingRunRequest(run_id=unknown),
        "ListTrainingRuns": pb.ListTrainingRunsRequest(page_size=2),
        "CancelTrainingRun": pb.CancelTrainingRunRequest(run_id=unknown, reason="no"),
        "WatchTrainingRun": pb.WatchTrainingRunRequest(run_id=unknown, after_sequence=1),
    }
    contract = pb.DESCRIPTOR.services_by_name["TrainingService"]
    launcher = LocalLauncher(TrainingSettings(device="cpu"))
    servicer = TrainingServicer(store, Scheduler(store, launcher))  # never started: runs stay queued
    with running(Service(contract, servicer)) as address:
        attack(address, contract, examples, per_class)
