"""Hostile requests to every RPC, and hostile models: a status of the table, a stable reason, and a field."""

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.__main__ import build
from luthier_kit.registry import register
from tests.model.small import ModelFiles
from tests.support.fuzz import Example, attack, attacking
from tests.support.hostile_bytes import absurd_json, damaged
from tests.support.own_process import in_own_process
from tests.support.services import temp_store

from .conftest import settings_for, version_of
from .test_registration import registration

CONTRACT = pb.DESCRIPTOR.services_by_name["InferenceService"]

WORK_CPU_S = 10.0
"""Of a thousand steps, which is as many as a request may ask for."""


@pytest.mark.parametrize("per_class", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(model_files: ModelFiles, tmp_path: Path, per_class: int) -> None:
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

    def streamed() -> pb.StreamGenerateRequest:
        """With music asked for in its fields."""
        request = generate()
        request.music.CopyFrom(pb.MusicFields(tempo_bpm=90, key="D minor", meter="3/4", instruments=["piano"]))
        return pb.StreamGenerateRequest(request=request)

    with temp_store(tmp_path / "store") as store:
        register(store, version_of(store, model_files, "tiny"))
        examples: dict[str, Example] = {
            "Generate": generate,
            "StreamGenerate": streamed,
            "ListModels": pb.ListModelsRequest(name="tiny"),
            "RegisterModel": registration(store, model_files, name="fuzzed"),
            "GetUsage": pb.GetUsageRequest(),
            "ListUsage": pb.ListUsageRequest(),
            "DetectMarks": pb.DetectMarksRequest(audio=store.blobs.put_bytes("audio", b"RIFF", "wav")),
        }
        with in_own_process(build, settings_for(tmp_path, default_model="tiny", caller_quotas=("*=",))) as service:
            attack(service, CONTRACT, examples, per_class, work_cpu_s=WORK_CPU_S)


@pytest.mark.parametrize("per_class", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_models_are_registered_or_refused(model_files: ModelFiles, tmp_path: Path, per_class: int) -> None:
    configuration = dict(model_files.configuration.document)
    text_encoder = json.loads((model_files.text_encoder / "config.json").read_text())
    weights = model_files.weights.read_bytes()
    header = 8 + int.from_bytes(weights[:8], "little")
    classes: dict[str, tuple[Callable[[random.Random], bytes], int]] = {
        "absurd configuration": (lambda chance: absurd_json(configuration, chance), per_class),
        "damaged configuration": (lambda chance: damaged(json.dumps(configuration).encode(), chance), per_class),
        "absurd text encoder": (lambda chance: absurd_json(text_encoder, chance), per_class),
        # whole files of weights: a tenth of them, for the disk
        "damaged header of weights": (
            lambda chance: damaged(weights[:header], chance) + weights[header:],
            per_class // 10,
        ),
    }

    with temp_store(tmp_path / "store") as store:
        whole = registration(store, model_files, name="fuzzed")

        def request(title: str, data: bytes) -> pb.RegisterModelRequest:
            ref = store.blobs.put_bytes("spoiled", data, "safetensors" if "weights" in title else "json")
            spoiled = pb.RegisterModelRequest()
            spoiled.CopyFrom(whole)
            if "text encoder" in title:
                config = next(file for file in spoiled.text_encoder if file.name == "config.json")
                config.file.CopyFrom(ref)
            elif "weights" in title:
                spoiled.checkpoint.CopyFrom(ref)
            else:
                spoiled.configuration.CopyFrom(ref)
            return spoiled

        with (
            in_own_process(build, settings_for(tmp_path, default_model="fuzzed")) as service,
            attacking(service, "RegisterModel of hostile models") as own,
        ):
            method = CONTRACT.methods_by_name["RegisterModel"]
            own.warm_up([(method, whole)])
            for title, (make, count) in classes.items():
                own.files(method, title, make, count, partial(request, title))
