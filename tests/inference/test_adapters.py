"""A version with an adapter is served as any other, its audio is the adapter's, and what is wrong with it is said."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from safetensors.torch import load_file, save_file

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ADAPTER_KIND_LORA, ModelAdapter
from luthier.inference.v1 import inference_pb2 as pb
from luthier_kit.registry import ModelVersion, register
from luthier_model import adapters
from tests.model.small import ModelFiles, adapter_over

from .conftest import Served, refusal, version_of
from .test_generate import audio_of

PROMPT = "calm piano in D minor at 90 BPM"
KINDS = {"lora": ADAPTER_KIND_LORA, "dora": ADAPTER_KIND_DORA}


def request(model: str, seed: int = 7) -> pb.GenerateRequest:
    return pb.GenerateRequest(prompt=PROMPT, seconds_total=1, steps=4, seed=seed, model=model)


def adapted(
    served: Served, files: ModelFiles, folder: Path, name: str, kind: str = "lora", size: float = 0.1, seed: int = 7
) -> ModelVersion:
    """Registered: the model with an adapter over it."""
    base = version_of(served.store, files, name)
    path = adapter_over(files, base.digest, folder, kind, size, seed=seed)
    ref = served.store.blobs.put_file("checkpoints", path)
    adapter = ModelAdapter(artifact=ref, kind=KINDS[kind], rank=3, alpha=6, targets=["attention"], relative_change=0.2)
    return register(served.store, replace(base, adapters=(adapter,)))


@pytest.mark.parametrize("kind", KINDS)
def test_generate_gives_what_the_merged_weights_give(
    served: Served, model_files: ModelFiles, tmp_path: Path, kind: str
) -> None:
    version = adapted(served, model_files, tmp_path, f"adapted-{kind}", kind)
    merged = load_file(model_files.weights)
    adapters.merge(adapters.read(adapter_over(model_files, "ab" * 32, tmp_path, kind)), merged)
    save_file(merged, tmp_path / "merged.safetensors")
    whole = replace(model_files, weights=tmp_path / "merged.safetensors")
    register(served.store, version_of(served.store, whole, f"merged-{kind}"))

    response, same, base = (served.stub.Generate(request(model)) for model in (version.label, f"merged-{kind}", "tiny"))

    heard, expected, without = (audio_of(served, each)[0] for each in (response, same, base))
    assert np.array_equal(heard, expected)
    assert not np.array_equal(heard, without)
    assert response.model_digest == f"sha256:{version.digest}"
    assert len({response.model_digest, same.model_digest, base.model_digest}) == 3


def test_an_adapter_without_effect_gives_exactly_the_bases_audio(
    served: Served, model_files: ModelFiles, tmp_path: Path
) -> None:
    adapted(served, model_files, tmp_path, "without-effect", size=0.0)
    response, base = (served.stub.Generate(request(model)) for model in ("without-effect", "tiny"))
    assert np.array_equal(audio_of(served, response)[0], audio_of(served, base)[0])
    assert response.action.action_key != base.action.action_key, "another model: made, not found"


def test_models_are_listed_with_their_adapters(served: Served, model_files: ModelFiles, tmp_path: Path) -> None:
    version = adapted(served, model_files, tmp_path, "listed")
    [model] = served.stub.ListModels(pb.ListModelsRequest(name="listed")).models
    assert model.checkpoint == served.stub.ListModels(pb.ListModelsRequest(name="tiny")).models[0].checkpoint
    [told] = [MessageToDict(adapter) for adapter in model.adapters]
    assert told == {
        "artifact": MessageToDict(version.adapters[0].artifact),
        "kind": "ADAPTER_KIND_LORA",
        "rank": 3,
        "alpha": 6.0,
        "targets": ["attention"],
        "relativeChange": 0.2,
    }


def test_an_adapter_of_another_base_is_refused(served: Served, model_files: ModelFiles, tmp_path: Path) -> None:
    version = adapted(served, model_files, tmp_path, "of-another")
    other = tmp_path / "other.safetensors"
    save_file({name: 1.01 * tensor for name, tensor in load_file(model_files.weights).items()}, other)
    base = version_of(served.store, replace(model_files, weights=other), "of-another")
    register(served.store, replace(base, adapters=version.adapters))
    code, text = refusal(lambda: served.stub.Generate(request("of-another")))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert (
        f"model of-another@2: adapter: it was trained on sha256:{version_of(served.store, model_files, 'x').digest}"
        in text
    )


def test_an_adapter_that_is_not_finite_is_data_loss(served: Served, model_files: ModelFiles, tmp_path: Path) -> None:
    adapted(served, model_files, tmp_path, "not-finite", size=float("nan"))
    code, text = refusal(lambda: served.stub.Generate(request("not-finite")))
    assert code == grpc.StatusCode.DATA_LOSS
    assert "model not-finite@1: adapter: tensor" in text
    assert "holds NaN or infinity" in text


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_by_name_over_its_base_sounds_as_its_own_version(
    served: Served, model_files: ModelFiles, tmp_path: Path, kind: str
) -> None:
    version = adapted(served, model_files, tmp_path, f"named-{kind}", kind)

    merged, applied = (served.stub.Generate(request(model)) for model in (version.label, f"tiny+named-{kind}"))

    expected, heard = (audio_of(served, each)[0] for each in (merged, applied))
    np.testing.assert_allclose(heard, expected, atol=1e-3 * np.abs(expected).max())
    assert (applied.model, applied.model_digest) == (f"tiny@1+named-{kind}@1:1", f"sha256:{digest_of_tiny(served)}")
    assert [(each.model, each.share) for each in applied.applied_adapters] == [(f"named-{kind}@1", 1.0)]
    assert applied.action.action_key != merged.action.action_key


def digest_of_tiny(served: Served) -> str:
    return served.stub.ListModels(pb.ListModelsRequest(name="tiny")).models[0].digest.removeprefix("sha256:")


def test_shares_and_several_adapters_are_other_audio_and_named_so(
    served: Served, model_files: ModelFiles, tmp_path: Path
) -> None:
    for seed, name in enumerate(("jazz", "piano")):
        adapted(served, model_files, tmp_path, name, seed=seed)
    asked = ["tiny+jazz", "tiny+jazz@1:1", "tiny+jazz:0.5", "tiny+jazz:0.5+piano:-0.25", "tiny+piano:-0.25+jazz:0.5"]

    answers = [served.stub.Generate(request(model)) for model in asked]

    keys = [answer.audio.key for answer in answers]
    assert keys[0] == keys[1]
    assert keys[3] == keys[4], "the order of adapters changes nothing"
    assert answers[4].action.reused
    assert len(set(keys)) == 3


def test_requests_with_other_adapters_share_the_device_and_are_as_alone(
    served: Served, model_files: ModelFiles, tmp_path: Path
) -> None:
    for kind in KINDS:
        adapted(served, model_files, tmp_path, f"shared-{kind}", kind)
    models = ["tiny", "tiny+shared-lora:0.7", "tiny+shared-dora", "tiny+shared-dora:0.5+shared-lora:0.5"]

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda model: served.stub.Generate(request(model, seed=91)), models))

    alone = []
    for model in models:
        asked = request(model, seed=91)
        asked.output_format = pb.OUTPUT_FORMAT_WAV  # the same samples under another name, so that they are made anew
        alone.append(served.stub.Generate(asked))
    for one, other in zip(together, alone, strict=True):
        assert not other.action.reused
        heard, expected = (audio_of(served, each)[0] for each in (one, other))
        np.testing.assert_allclose(heard, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("model", "code", "text"),
    [
        ("tiny+", grpc.StatusCode.INVALID_ARGUMENT, "must name an adapter behind each +"),
        ("tiny+a+a", grpc.StatusCode.INVALID_ARGUMENT, "must name each adapter once"),
        ("tiny+a:0", grpc.StatusCode.INVALID_ARGUMENT, "the share from -2 to 2 and not 0, got 'a:0'"),
        ("tiny+a:nan", grpc.StatusCode.INVALID_ARGUMENT, "the share from -2 to 2 and not 0"),
        ("tiny+a:2.1", grpc.StatusCode.INVALID_ARGUMENT, "the share from -2 to 2 and not 0"),
        ("tiny+a+b+c+d+e", grpc.StatusCode.INVALID_ARGUMENT, "at most 4 adapters, got 5"),
        ("tiny+nobody@3:1", grpc.StatusCode.NOT_FOUND, "nobody@3"),
        ("tiny+tiny", grpc.StatusCode.FAILED_PRECONDITION, "tiny@1 has no adapter"),
    ],
)
def test_adapters_that_cannot_be_applied_are_refused(
    served: Served, model: str, code: grpc.StatusCode, text: str
) -> None:
    found, details = refusal(lambda: served.stub.Generate(request(model)))

    assert found is code
    assert text in details


def test_an_adapter_of_another_base_says_which_is_its_own(
    served: Served, model_files: ModelFiles, tmp_path: Path
) -> None:
    adapted(served, model_files, tmp_path, "of-tiny")
    other = tmp_path / "another.safetensors"
    save_file({name: 1.02 * tensor for name, tensor in load_file(model_files.weights).items()}, other)
    register(served.store, version_of(served.store, replace(model_files, weights=other), "another"))

    code, details = refusal(lambda: served.stub.Generate(request("another+of-tiny")))

    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "the adapter of of-tiny@1 was trained on tiny@1, not on another@1" in details


def test_adapters_are_not_applied_to_weights_of_8_bits(served: Served, model_files: ModelFiles, tmp_path: Path) -> None:
    adapted(served, model_files, tmp_path, "rounded")
    asked = request("tiny+rounded")
    asked.precision = pb.PRECISION_INT8

    code, details = refusal(lambda: served.stub.Generate(asked))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "precision: must be another than int8 with adapters" in details
