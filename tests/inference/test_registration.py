"""An operator registers weights: what fits is served, what does not is named."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.inference.v1 import inference_pb2 as pb
from luthier_kit.registry import resolve
from luthier_kit.rpc import InvalidRequest, Unavailable, error_of_call
from luthier_kit.store import Store
from luthier_model import checkpoint, text_encoder
from tests.model.small import ModelFiles

from .conftest import Served, refusal, version_of

PROMPT = "calm piano"


def named(store: Store, model_files: ModelFiles) -> list[pb.NamedFile]:
    return [
        pb.NamedFile(name=path.name, file=store.blobs.put_file("text-encoders", path))
        for path in sorted(text_encoder.files(model_files.text_encoder))
    ]


def registration(store: Store, model_files: ModelFiles, **fields: Any) -> pb.RegisterModelRequest:
    version = version_of(store, model_files, "unused")
    return pb.RegisterModelRequest(
        **{
            "name": "mine",
            "checkpoint": version.checkpoint,
            "configuration": version.configuration,
            "text_encoder": named(store, model_files),
            "registered_by": "operator",
            "reason": "first",
            **fields,
        }
    )


def test_registered_weights_generate(served: Served, model_files: ModelFiles) -> None:
    model = served.stub.RegisterModel(registration(served.store, model_files)).model

    response = served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, model="mine", seconds_total=0.5))

    assert (response.model, response.model_digest) == (f"mine@{model.version}", model.digest)
    assert model.window_s == pytest.approx(model_files.configuration.window_s)


def test_weights_in_half_precision_generate(served: Served, model_files: ModelFiles, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in load_file(model_files.weights).items()}
    save_file(half, tmp_path / "half.safetensors")
    ref = served.store.blobs.put_file("checkpoints", tmp_path / "half.safetensors")
    served.stub.RegisterModel(registration(served.store, model_files, name="half", checkpoint=ref))

    response = served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, model="half", seconds_total=0.5))

    assert response.samples == 8000


def test_a_registered_version_knows_its_autoencoder_and_brings_its_text_encoder(
    served: Served, model_files: ModelFiles
) -> None:
    served.stub.RegisterModel(registration(served.store, model_files, name="whole"))

    version = resolve(served.store, "whole")
    assert len(version.autoencoder_digest) == 64
    assert "model.safetensors" in dict(version.text_encoder)


def test_registering_the_same_again_changes_nothing(served: Served, model_files: ModelFiles) -> None:
    first = served.stub.RegisterModel(registration(served.store, model_files, name="same")).model
    again = served.stub.RegisterModel(registration(served.store, model_files, name="same")).model

    assert (first.version, again.version) == (1, 1)


def test_weights_of_another_shape_are_a_mismatch_that_names_the_tensor(
    served: Served, model_files: ModelFiles, tmp_path: Path
) -> None:
    state = load_file(model_files.weights)
    name = next(n for n, t in state.items() if n.startswith("model.") and t.dim() == 2)
    state[name] = torch.zeros(3, 3)
    wrong = tmp_path / "wrong.safetensors"
    save_file(state, wrong)
    ref = served.store.blobs.put_file("checkpoints", wrong)

    code, details = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, model_files, name="wrong", checkpoint=ref))
    )

    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert name in details
    assert "[3, 3]" in details
    assert refusal(lambda: served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, model="wrong")))[0] == (
        grpc.StatusCode.NOT_FOUND
    )


def test_a_pickle_is_refused_unopened(served: Served, model_files: ModelFiles, tmp_path: Path) -> None:
    pickled = tmp_path / "weights.ckpt"
    torch.save({"a": torch.zeros(2)}, pickled)
    ref = served.store.blobs.put_file("checkpoints", pickled)

    code, details = refusal(lambda: served.stub.RegisterModel(registration(served.store, model_files, checkpoint=ref)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "safetensors" in details


def test_an_unknown_configuration_is_refused_field_by_field(served: Served, model_files: ModelFiles) -> None:
    document = json.loads(json.dumps(dict(model_files.configuration.document)))
    document["sample_rate"] = -1
    ref = served.store.blobs.put_bytes("configurations", json.dumps(document).encode(), "json")

    code, details = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, model_files, configuration=ref))
    )

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "configuration.sample_rate" in details


@pytest.mark.parametrize(
    ("fields", "named_field"),
    [({"name": "Not A Name"}, "name"), ({"registered_by": ""}, "registered_by"), ({"reason": "r" * 501}, "reason")],
)
def test_a_registration_names_what_is_wrong(
    served: Served, model_files: ModelFiles, fields: dict[str, Any], named_field: str
) -> None:
    code, details = refusal(lambda: served.stub.RegisterModel(registration(served.store, model_files, **fields)))

    assert (code, details.startswith(named_field)) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_text_encoder_needs_its_files_under_their_names(served: Served, model_files: ModelFiles) -> None:
    (first, *rest) = named(served.store, model_files)
    odd = pb.NamedFile(name="../evil", file=first.file)

    code, _ = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, model_files, text_encoder=[odd, *rest]))
    )
    lacking, details = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, model_files, text_encoder=rest[:1]))
    )

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert lacking == grpc.StatusCode.FAILED_PRECONDITION
    assert "lacks" in details


def test_without_a_text_encoder_anywhere_registering_says_so(served: Served, model_files: ModelFiles) -> None:
    code, details = refusal(lambda: served.stub.RegisterModel(registration(served.store, model_files, text_encoder=[])))

    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "text encoder" in details


def test_a_text_encoder_that_is_no_safetensors_is_refused(served: Served, model_files: ModelFiles) -> None:
    files = named(served.store, model_files)
    pickled = served.store.blobs.put_bytes("text-encoders", b"\x80\x04K\x01.", "safetensors")
    for item in files:
        if item.name == "model.safetensors":
            item.file.CopyFrom(pickled)

    code, details = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, model_files, text_encoder=files))
    )

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "text_encoder" in details


@pytest.mark.parametrize("spoiled", ["nan", "int32"])
def test_weights_that_are_not_finite_numbers_are_not_registered(
    served: Served, model_files: ModelFiles, tmp_path: Path, spoiled: str
) -> None:
    state = load_file(model_files.weights)
    name = next(n for n in state if n.startswith("model."))
    state[name] = torch.full_like(state[name], torch.nan) if spoiled == "nan" else state[name].to(torch.int32)
    save_file(state, tmp_path / "spoiled.safetensors")
    ref = served.store.blobs.put_file("checkpoints", tmp_path / "spoiled.safetensors")

    code, message = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, model_files, name=spoiled, checkpoint=ref))
    )

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert f"checkpoint: tensor {name}" in message
    assert spoiled not in {model.name for model in served.stub.ListModels(pb.ListModelsRequest()).models}


def test_a_text_encoder_of_garbage_weights_is_not_registered(
    served: Served, model_files: ModelFiles, tmp_path: Path
) -> None:
    save_file({"shared.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    files = named(served.store, model_files)
    wrong = served.store.blobs.put_file("text-encoders", tmp_path / "model.safetensors")
    next(item for item in files if item.name == "model.safetensors").file.CopyFrom(wrong)

    code, message = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, model_files, name="deaf", text_encoder=files))
    )

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("text_encoder: model.safetensors")


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("tokenizer.json", b"{}", "the tokenizer of the text encoder cannot be read"),
        ("tokenizer.json", b"\x00\x01\x02", "the tokenizer of the text encoder cannot be read"),
        ("config.json", b'{"layer_norm_epsilon": "x"}', "layer_norm_epsilon must be a number"),
        ("config.json", b'{"quantization_config": {"quant_method": "gptq"}}', "quantization_config must be absent"),
    ],
)
def test_a_text_encoder_that_cannot_be_used_is_not_registered(
    served: Served, model_files: ModelFiles, name: str, data: bytes, what: str
) -> None:
    """Each generation would be INTERNAL."""
    if name == "config.json":
        data = json.dumps({**json.loads((model_files.text_encoder / name).read_text()), **json.loads(data)}).encode()
    files = named(served.store, model_files)
    wrong = served.store.blobs.put_bytes("text-encoders", data, "json")
    next(item for item in files if item.name == name).file.CopyFrom(wrong)

    with pytest.raises(grpc.RpcError) as refused:
        served.stub.RegisterModel(registration(served.store, model_files, name="deaf", text_encoder=files))

    error = error_of_call(refused.value)
    assert isinstance(error, InvalidRequest)
    assert error.reason == "TEXT_ENCODER_UNREADABLE"
    assert what in dict(error.violations)["text_encoder"]
    assert "deaf" not in {model.name for model in served.stub.ListModels(pb.ListModelsRequest()).models}


def test_registering_takes_no_slot_and_no_more_than_two_calls(
    served: Served, model_files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads gigabytes: one works, one waits, others are told when to come back; lists and generations go on."""
    working, go_on, ended = threading.Event(), threading.Event(), threading.Semaphore(0)
    check_weights = checkpoint.check_weights

    def slow(*arguments: Any) -> None:
        working.set()
        assert go_on.wait(60)
        check_weights(*arguments)

    monkeypatch.setattr(checkpoint, "check_weights", slow)
    asked = [registration(served.store, model_files, name=f"busy-{number}") for number in range(6)]
    calls = [served.stub.RegisterModel.future(asked[0])]
    assert working.wait(60)
    calls += [served.stub.RegisterModel.future(request) for request in asked[1:]]
    for call in calls:
        call.add_done_callback(lambda _: ended.release())
    try:
        assert all(ended.acquire(timeout=60) for _ in range(4)), "four of five are refused while the first works"
        errors = [call.exception() for call in calls if call.done()]
        assert served.stub.ListModels(pb.ListModelsRequest()).models
        assert served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, model="tiny", seconds_total=0.5)).samples
        assert not calls[0].done()
    finally:
        go_on.set()

    refused = [error_of_call(error) for error in errors if isinstance(error, grpc.RpcError)]
    assert len(refused) == 4
    assert all(isinstance(error, Unavailable) and error.retry_after_s == 10 for error in refused)
    assert {error.reason for error in refused} == {"REGISTRATION_BUSY"}
    assert sum(call.exception() is None for call in calls) == 2


def test_a_registration_whose_caller_left_gives_its_place_back(
    served: Served, model_files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, go_on = threading.Event(), threading.Event()
    check_weights = checkpoint.check_weights

    def slow(*arguments: Any) -> None:
        working.set()
        assert go_on.wait(60)
        check_weights(*arguments)

    monkeypatch.setattr(checkpoint, "check_weights", slow)
    asked = [registration(served.store, model_files, name=f"left-{number}") for number in range(3)]
    first = served.stub.RegisterModel.future(asked[0])
    assert working.wait(60)
    assert refusal(lambda: served.stub.RegisterModel(asked[1], timeout=1))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(1.0)  # it looks every half second whether its caller is there
    last = served.stub.RegisterModel.future(asked[2])
    time.sleep(0.2)
    go_on.set()

    assert [call.result().model.name for call in (first, last)] == ["left-0", "left-2"]
