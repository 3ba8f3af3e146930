"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.inference.v1 import inference_pb2 as pb
from tests.model.small import ModelFiles
from tests.support.fuzz import attack

from .conftest import Served, serving
from .test_registration import registration


@pytest.fixture
def attacked(model_files: ModelFiles, tmp_path: Path) -> Iterator[Served]:
    """A service of its own: what is registered in it is nobody else's."""
    with serving(model_files, tmp_path) as served:
        yield served


@pytest.mark.parametrize("per_class", [None, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(attacked: Served, model_files: ModelFiles, per_class: int | None) -> None:
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
        "RegisterModel": registration(attacked.store, model_files, name="fuzzed"),
    }
    attack(attacked.address, pb.DESCRIPTOR.services_by_name["InferenceService"], examples, per_class)
