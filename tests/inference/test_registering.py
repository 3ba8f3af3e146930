"""An operator registers weights: what fits is served, what does not is named."""

import json

import grpc
import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.inference.v1 import inference_pb2 as pb
from luthier_kit import models
from luthier_model import text_encoder

from .conftest import refusal, version_of

PROMPT = "calm piano"


def named(store, parts) -> list[pb.NamedFile]:
    return [
        pb.NamedFile(name=path.name, file=store.put_file("text-encoders", path))
        for path in sorted(text_encoder.files(parts.text))
    ]


def registration(store, parts, **fields: object) -> pb.RegisterModelRequest:
    version = version_of(store, parts, "unused")
    return pb.RegisterModelRequest(
        **{
            "name": "mine",
            "checkpoint": version.checkpoint,
            "configuration": version.configuration,
            "text_encoder": named(store, parts),
            "registered_by": "operator",
            "reason": "first",
            **fields,
        }
    )


def test_registered_weights_generate(served, parts):
    model = served.stub.RegisterModel(registration(served.store, parts)).model

    response = served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, model="mine", seconds_total=0.5))

    assert (response.model, response.model_digest) == (f"mine@{model.version}", model.digest)
    assert model.window_s == pytest.approx(parts.configuration.window_s)


def test_a_registered_version_knows_its_autoencoder_and_brings_its_text_encoder(served, parts):
    served.stub.RegisterModel(registration(served.store, parts, name="whole"))

    version = models.resolve(served.store, "whole")
    assert len(version.autoencoder_digest) == 64
    assert "model.safetensors" in dict(version.text_encoder)


def test_registering_the_same_again_changes_nothing(served, parts):
    first = served.stub.RegisterModel(registration(served.store, parts, name="same")).model
    again = served.stub.RegisterModel(registration(served.store, parts, name="same")).model

    assert (first.version, again.version) == (1, 1)


def test_weights_of_another_shape_are_a_mismatch_that_names_the_tensor(served, parts, tmp_path):
    state = load_file(parts.weights)
    name = next(n for n, t in state.items() if n.startswith("model.") and t.dim() == 2)
    state[name] = torch.zeros(3, 3)
    wrong = tmp_path / "wrong.safetensors"
    save_file(state, wrong)
    ref = served.store.put_file("checkpoints", wrong)

    code, details = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, parts, name="wrong", checkpoint=ref))
    )

    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert name in details
    assert "[3, 3]" in details
    assert refusal(lambda: served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, model="wrong")))[0] == (
        grpc.StatusCode.NOT_FOUND
    )


def test_a_pickle_is_refused_unopened(served, parts, tmp_path):
    pickled = tmp_path / "weights.ckpt"
    torch.save({"a": torch.zeros(2)}, pickled)
    ref = served.store.put_file("checkpoints", pickled)

    code, details = refusal(lambda: served.stub.RegisterModel(registration(served.store, parts, checkpoint=ref)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "safetensors" in details


def test_an_unknown_configuration_is_refused_field_by_field(served, parts):
    document = json.loads(json.dumps(dict(parts.configuration.document)))
    document["sample_rate"] = -1
    ref = served.store.put_bytes("configurations", json.dumps(document).encode(), "json")

    code, details = refusal(lambda: served.stub.RegisterModel(registration(served.store, parts, configuration=ref)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "configuration.sample_rate" in details


@pytest.mark.parametrize(
    ("fields", "named_field"),
    [({"name": "Not A Name"}, "name"), ({"registered_by": ""}, "registered_by"), ({"reason": "r" * 501}, "reason")],
)
def test_a_registration_names_what_is_wrong(served, parts, fields, named_field):
    code, details = refusal(lambda: served.stub.RegisterModel(registration(served.store, parts, **fields)))

    assert (code, details.startswith(named_field)) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_text_encoder_needs_its_files_under_their_names(served, parts):
    (first, *rest) = named(served.store, parts)
    odd = pb.NamedFile(name="../evil", file=first.file)

    code, _ = refusal(lambda: served.stub.RegisterModel(registration(served.store, parts, text_encoder=[odd, *rest])))
    lacking, details = refusal(
        lambda: served.stub.RegisterModel(registration(served.store, parts, text_encoder=rest[:1]))
    )

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert lacking == grpc.StatusCode.FAILED_PRECONDITION
    assert "lacks" in details


def test_without_a_text_encoder_anywhere_registering_says_so(served, parts):
    code, details = refusal(lambda: served.stub.RegisterModel(registration(served.store, parts, text_encoder=[])))

    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "text encoder" in details
