"""A version with an adapter is served as any other, its audio is the adapter's, and what is wrong with it is said."""

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


def request(model: str) -> pb.GenerateRequest:
    return pb.GenerateRequest(prompt=PROMPT, seconds_total=1, steps=4, seed=7, model=model)


def adapted(
    served: Served, files: ModelFiles, folder: Path, name: str, kind: str = "lora", size: float = 0.1
) -> ModelVersion:
    """Registered: the model with an adapter over it."""
    base = version_of(served.store, files, name)
    path = adapter_over(files, base.digest, folder, kind, size)
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
