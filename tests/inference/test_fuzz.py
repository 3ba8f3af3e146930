"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

import pytest

from luthier.inference.v1 import inference_pb2 as pb
from tests.model.small import ModelFiles
from tests.support.fuzz import attack

from .conftest import Served
from .test_registration import registration


@pytest.mark.parametrize("per_class", [None, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(served: Served, model_files: ModelFiles, per_class: int | None) -> None:
    generate = pb.GenerateRequest(
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
    examples = {
        "Generate": generate,
        "StreamGenerate": pb.StreamGenerateRequest(request=generate),
        "ListModels": pb.ListModelsRequest(name="tiny"),
        "RegisterModel": registration(served.store, model_files, name="fuzzed"),
    }
    attack(served.address, pb.DESCRIPTOR.services_by_name["InferenceService"], examples, per_class)
