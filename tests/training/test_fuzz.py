"""Hostile requests to every RPC, and hostile data sets: a status of the table, a stable reason, and a field."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1 import training_pb2 as pb
from luthier_kit.registry import ModelVersion
from luthier_kit.store import Store
from luthier_training.__main__ import build
from luthier_training.settings import TrainingSettings
from tests.support.fuzz import Example, attack, attacking
from tests.support.hostile_bytes import absurd_json, damaged
from tests.support.own_process import in_own_process

from .conftest import manifest, queued_tuning

CONTRACT = pb.DESCRIPTOR.services_by_name["TrainingService"]


@pytest.mark.parametrize("per_class", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(
    store: Store, dataset_ref: ArtifactRef, base: ModelVersion, tmp_path: Path, per_class: int
) -> None:
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
        metadata_share=0.5,
        keep_every=2,
        keep_best=True,
        export=pb.EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
        stages=[
            pb.TrainingStage(name="test", steps=3, batch_size=1, data=[pb.StageData(dataset=dataset_ref, share=2)]),
            pb.TrainingStage(name="main", steps=5, learning_rate=1e-3, warmup_steps=2),
        ],
    )

    def create() -> pb.CreateTrainingRunRequest:
        return pb.CreateTrainingRunRequest(
            request_id=uuid4().hex, dataset=dataset_ref, model_name="tuned", created_by="ann", seed=1, fine_tune=tune
        )

    ended = queued_tuning(store, dataset_ref, "ended")
    ended.cancel()  # a stream of it ends
    examples: dict[str, Example] = {
        "CreateTrainingRun": create,
        "GetTrainingRun": pb.GetTrainingRunRequest(run_id=ended.id),
        "ListTrainingRuns": pb.ListTrainingRunsRequest(page_size=2),
        "CancelTrainingRun": pb.CancelTrainingRunRequest(run_id=ended.id, reason="no"),
        "WatchTrainingRun": pb.WatchTrainingRunRequest(run_id=ended.id, after_sequence=1),
    }
    settings = TrainingSettings(device="cpu", address="127.0.0.1:0", store_folder=tmp_path / "store", scratch=tmp_path)
    with in_own_process(build, settings, prepared=False) as service:  # runs stay queued: nothing is trained
        attack(service, CONTRACT, examples, per_class)


@pytest.mark.parametrize("per_class", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_data_sets_are_taken_or_refused(
    store: Store, base: ModelVersion, tmp_path: Path, per_class: int
) -> None:
    whole = manifest(store, tmp_path)
    makes: dict[str, Callable[[random.Random], bytes]] = {
        "damaged manifest": lambda chance: damaged(whole, chance),
        "absurd manifest": lambda chance: absurd_json(json.loads(whole), chance),
    }

    def create(data: bytes) -> pb.CreateTrainingRunRequest:
        dataset = store.blobs.put_bytes("manifests", data, "json", "application/json")
        tune = pb.FineTune(base_model=base.name)
        return pb.CreateTrainingRunRequest(
            request_id=uuid4().hex, dataset=dataset, model_name="tuned", created_by="ann", fine_tune=tune
        )

    settings = TrainingSettings(device="cpu", address="127.0.0.1:0", store_folder=tmp_path / "store", scratch=tmp_path)
    with (
        in_own_process(build, settings, prepared=False) as service,
        attacking(service, "CreateTrainingRun of hostile data sets") as own,
    ):
        method = CONTRACT.methods_by_name["CreateTrainingRun"]
        own.warm_up([(method, create(whole))])
        for title, make in makes.items():
            own.files(method, title, make, per_class, create)
