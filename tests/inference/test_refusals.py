"""What `Generate` refuses, by name and bound."""

import json
from dataclasses import replace
from typing import Any

import grpc
import pytest

from luthier.common.v1.common_pb2 import Span
from luthier.inference.v1 import inference_pb2 as pb
from luthier_kit.registry import TRANSFORMER, UNFIT, register
from tests.model.small import ModelFiles

from .conftest import Served, refusal, version_of

PROMPT = "calm piano in D minor at 90 BPM"


def request(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"prompt": PROMPT, "seconds_total": 1.5, "steps": 4, "seed": 7, **fields})


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("seconds_total", 1e9, "between 0.1 and"),
        ("seconds_total", float("nan"), "between 0.1 and"),
        ("seconds_total", 0.0, "between 0.1 and"),
        ("seconds_start", -1.0, "between 0 and"),
        ("steps", 0, "between 1 and 1000"),
        ("steps", 1001, "between 1 and 1000"),
        ("prompt", "  ", "must not be empty"),
        ("prompt", "p" * 2001, "at most 2000 characters"),
        ("negative_prompt", "p" * 2001, "at most 2000 characters"),
        ("sampler", "magic", "must be one of"),
        ("sigma_min", 0.0, "above 0 and below sigma_max"),
        ("sigma_max", float("inf"), "at most 10000"),
        ("guidance_scale", float("nan"), "between 0 and 50"),
        ("guidance_rescale", 1.5, "between 0 and 1"),
        ("init_noise_level", 1.0, "needs init_audio"),
        ("guidance_from", -0.1, "between 0 and 1"),
        ("guidance_to", float("nan"), "between 0 and 1"),
        ("keep", [Span(start_s=0, end_s=1)], "needs init_audio"),
        ("keep", [Span(start_s=1, end_s=1)], "keep[0]: must be from 0 or later to a later end"),
        ("keep", [Span(start_s=0, end_s=float("nan"))], "keep[0]: must be from 0 or later to a later end"),
        ("keep", [Span(start_s=0, end_s=1)] * 65, "0 to 64 items"),
        ("loudness_target_lufs", 0.0, "between -40 and -5"),
        ("true_peak_limit_dbtp", 1.0, "between -20 and 0"),
        ("output_format", 99, "must be one of"),
        ("request_id", "i" * 129, "at most 128 characters"),
    ],
)
@pytest.mark.parametrize("model", ["", "nobody"])
def test_what_is_beyond_a_bound_is_refused_by_name(
    served: Served, field: str, value: object, bound: str, model: str
) -> None:
    code, details = refusal(lambda: served.stub.Generate(request(**{field: value, "model": model})))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert field in details
    assert bound in details


@pytest.mark.parametrize(
    ("fields", "field", "bound"),
    [
        ({"guidance_from": 0.8, "guidance_to": 0.7}, "guidance_from", "at most guidance_to (0.7)"),
        ({"sampler": "v-ddim", "sigma_max": 500.0}, "sigma_max", "between 0.001 and 1"),
        ({"sampler": "v-ddim", "sigma_min": 0.3}, "sigma_min", "must be 0: v-ddim has none"),
    ],
)
def test_what_goes_not_together_is_refused(served: Served, fields: dict[str, Any], field: str, bound: str) -> None:
    code, details = refusal(lambda: served.stub.Generate(request(**fields)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert f"{field}: {bound}" in details or (field in details and bound in details)


def test_a_model_that_keeps_nothing_says_what_to_do_instead(served: Served) -> None:
    ref = served.store.blobs.put_bytes("uploads", b"any audio", "wav", "audio/wav")
    code, details = refusal(lambda: served.stub.Generate(request(init_audio=ref, keep=[Span(start_s=0, end_s=1)])))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "only one of type diffusion_cond_inpaint does; init_audio with a low init_noise_level" in details


def test_all_violations_are_named_at_once(served: Served) -> None:
    _, details = refusal(lambda: served.stub.Generate(request(prompt="", steps=0, seconds_total=1e9)))

    assert all(field in details for field in ("prompt", "steps", "seconds_total"))


def test_a_version_whose_transformer_does_not_fit_its_autoencoder_makes_no_noise(
    served: Served, model_files: ModelFiles
) -> None:
    unfit = replace(version_of(served.store, model_files, "unfit"), notes={TRANSFORMER: UNFIT})
    # other bytes of the same meaning: another digest, so that no model in memory stands for it
    document = json.dumps(dict(model_files.configuration.document), indent=3).encode()
    other = served.store.blobs.put_bytes("configurations", document, "json", "application/json")
    label = register(served.store, replace(unfit, configuration=other)).label
    code, details = refusal(lambda: served.stub.Generate(request(model=label)))

    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "the encoder of unfit@1 was trained" in details
    assert "fine-tune it" in details


def test_a_bad_request_is_refused_in_a_stream_too(served: Served) -> None:
    bad = pb.StreamGenerateRequest(request=request(steps=0))
    code, details = refusal(lambda: list(served.stub.StreamGenerate(bad)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "steps" in details


def test_an_unknown_model_is_not_found_and_the_known_are_named(served: Served) -> None:
    code, details = refusal(lambda: served.stub.Generate(request(model="nobody")))

    assert code == grpc.StatusCode.NOT_FOUND
    assert "tiny" in details


def test_init_audio_that_is_no_audio_is_refused(served: Served) -> None:
    ref = served.store.blobs.put_bytes("uploads", b"no audio", "wav", "audio/wav")
    code, details = refusal(lambda: served.stub.Generate(request(init_audio=ref)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "init_audio" in details


@pytest.mark.parametrize("level", [0.0, 0.3, 501.0, float("nan")])
def test_a_noise_level_that_is_not_between_the_sigmas_is_refused(served: Served, level: float) -> None:
    ref = served.store.blobs.put_bytes("uploads", b"any audio", "wav", "audio/wav")
    asked = request(init_audio=ref, init_noise_level=level, sigma_min=0.3, sigma_max=500.0)
    code, details = refusal(lambda: served.stub.Generate(asked))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "above sigma_min (0.3)" in details
