"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

from pathlib import Path
from uuid import uuid4

import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.__main__ import build
from luthier_kit.registry import register
from tests.model.small import ModelFiles
from tests.support.fuzz import Example, attack
from tests.support.own_process import in_own_process
from tests.support.services import temp_store

from .conftest import settings_for, version_of
from .test_registration import registration


@pytest.mark.parametrize("per_class", [None, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(model_files: ModelFiles, tmp_path: Path, per_class: int | None) -> None:
    def generate() -> pb.GenerateRequest:
        return pb.GenerateRequest(
            request_id=uuid4().hex,
            prompt="calm piano",
            negative_prompt="drums",
            model="tiny",
            seconds_start=0,
            seconds_total=0.5,
            steps=1,
            sampler="k-euler",
            sigma_min=0.3,
            sigma_max=100,
            guidance_scale=2,
            guidance_rescale=0.1,
            seed=1,
            output_format=pb.OUTPUT_FORMAT_FLAC,
        )

    with temp_store(tmp_path / "store") as store:
        register(store, version_of(store, model_files, "tiny"))
        examples: dict[str, Example] = {
            "Generate": generate,
            "StreamGenerate": lambda: pb.StreamGenerateRequest(request=generate()),
            "ListModels": pb.ListModelsRequest(name="tiny"),
            "RegisterModel": registration(store, model_files, name="fuzzed"),
        }
        with in_own_process(build, settings_for(tmp_path, default_model="tiny")) as service:
            attack(service, pb.DESCRIPTOR.services_by_name["InferenceService"], examples, per_class)
