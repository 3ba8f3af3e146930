"""Registering, naming, loading, watching and losing models, over real gRPC and on the shelf."""

import json
import threading
import time
from pathlib import Path

import grpc
import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.app import build
from luthier_inference.shelf import Shelf
from luthier_kit.errors import Unavailable
from luthier_kit.models import register
from luthier_kit.settings import SettingsError
from luthier_kit.testing import running, temp_store
from luthier_model import text_encoder

from .conftest import settings_for, version_of

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


def code_of(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code(), refused.value.details()


def test_registered_weights_generate(served, parts):
    model = served.stub.RegisterModel(registration(served.store, parts)).model

    response = served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, model="mine", seconds_total=0.5))

    assert (response.model, response.model_digest) == (f"mine@{model.version}", model.digest)
    assert model.window_s == pytest.approx(parts.configuration.window_s)


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

    code, details = code_of(
        lambda: served.stub.RegisterModel(registration(served.store, parts, name="wrong", checkpoint=ref))
    )

    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert name in details
    assert "[3, 3]" in details
    assert code_of(lambda: served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, model="wrong")))[0] == (
        grpc.StatusCode.NOT_FOUND
    )


def test_a_pickle_is_refused_unopened(served, parts, tmp_path):
    pickled = tmp_path / "weights.ckpt"
    torch.save({"a": torch.zeros(2)}, pickled)
    ref = served.store.put_file("checkpoints", pickled)

    code, details = code_of(lambda: served.stub.RegisterModel(registration(served.store, parts, checkpoint=ref)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "safetensors" in details


def test_an_unknown_configuration_is_refused_field_by_field(served, parts):
    document = json.loads(json.dumps(dict(parts.configuration.document)))
    document["sample_rate"] = -1
    ref = served.store.put_bytes("configurations", json.dumps(document).encode(), "json")

    code, details = code_of(lambda: served.stub.RegisterModel(registration(served.store, parts, configuration=ref)))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "configuration.sample_rate" in details


@pytest.mark.parametrize(
    ("fields", "named_field"),
    [({"name": "Not A Name"}, "name"), ({"registered_by": ""}, "registered_by"), ({"reason": "r" * 501}, "reason")],
)
def test_a_registration_names_what_is_wrong(served, parts, fields, named_field):
    code, details = code_of(lambda: served.stub.RegisterModel(registration(served.store, parts, **fields)))

    assert (code, details.startswith(named_field)) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_text_encoder_needs_its_files_under_their_names(served, parts):
    (first, *rest) = named(served.store, parts)
    odd = pb.NamedFile(name="../evil", file=first.file)

    code, _ = code_of(lambda: served.stub.RegisterModel(registration(served.store, parts, text_encoder=[odd, *rest])))
    lacking, details = code_of(
        lambda: served.stub.RegisterModel(registration(served.store, parts, text_encoder=rest[:1]))
    )

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert lacking == grpc.StatusCode.FAILED_PRECONDITION
    assert "lacks" in details


def test_without_a_text_encoder_anywhere_registering_says_so(served, parts):
    code, details = code_of(lambda: served.stub.RegisterModel(registration(served.store, parts, text_encoder=[])))

    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "text encoder" in details


def test_models_are_listed_newest_first_with_what_is_loaded(served):
    served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, seconds_total=0.5, model="tiny"))

    (model,) = served.stub.ListModels(pb.ListModelsRequest(name="tiny")).models

    assert (model.name, model.version, model.loaded, model.created_by) == ("tiny", 1, True, "test")
    assert model.HasField("created_at")


def corrupt(folder: Path, key: str) -> None:
    path = folder / "store" / "luthier" / key
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def test_a_corrupt_checkpoint_is_data_loss_and_other_models_go_on(parts, tmp_path):
    settings = settings_for(tmp_path)
    with temp_store(tmp_path / "store") as store:
        broken = register(store, version_of(store, parts, "broken"))
        with running(build(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            corrupt(tmp_path, broken.checkpoint.key)

            code, _ = code_of(lambda: stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1)))
            store.put_file("checkpoints", parts.weights)
            mended = stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1))

    assert code == grpc.StatusCode.DATA_LOSS
    assert mended.model == "broken@1"


def trained_on(parts, folder: Path) -> Path:
    """Other weights of the same shape."""
    state = {name: tensor * 1.01 for name, tensor in load_file(parts.weights).items()}
    path = folder / "newer.safetensors"
    save_file(state, path)
    return path


def test_a_served_name_moves_to_its_newer_version_without_a_gap(parts, tmp_path):
    settings = settings_for(tmp_path, models=("tiny",), models_loaded=1, watch_every_s=0.1)
    with temp_store(tmp_path / "store") as store:
        first = register(store, version_of(store, parts, "tiny"))
        with running(build(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            loaded_at_start = [m.digest for m in stub.ListModels(pb.ListModelsRequest()).models if m.loaded]
            newer = version_of(store, parts, "tiny")
            newer = register(
                store,
                newer.__class__(
                    **{**newer.__dict__, "checkpoint": store.put_file("checkpoints", trained_on(parts, tmp_path))}
                ),
            )
            answers = []
            while (not answers or answers[-1] != "tiny@2") and len(answers) < 200:
                answer = stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, seconds_total=0.5, seed=len(answers)))
                answers.append(answer.model)
            loaded = [m.version for m in stub.ListModels(pb.ListModelsRequest()).models if m.loaded]

    assert loaded_at_start == [f"sha256:{first.digest}"]
    assert answers == sorted(answers)
    assert answers[-1] == "tiny@2"
    assert loaded == [2]


def test_a_newer_version_that_cannot_be_loaded_leaves_the_older_in_service(parts, tmp_path):
    settings = settings_for(tmp_path, models=("tiny",), watch_every_s=0.1)
    with temp_store(tmp_path / "store") as store:
        register(store, version_of(store, parts, "tiny"))
        with running(build(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            bad = version_of(store, parts, "tiny")
            register(
                store,
                bad.__class__(
                    **{**bad.__dict__, "checkpoint": store.put_bytes("checkpoints", b"nothing", "safetensors")}
                ),
            )
            time.sleep(0.5)

            answer = stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1))

    assert answer.model == "tiny@1"


def test_without_a_default_a_request_must_name_one_of_several_models(parts, tmp_path):
    settings = settings_for(tmp_path)
    with (
        temp_store(tmp_path / "store") as store,
        running(build(settings, store), settings) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        ask = pb.GenerateRequest(prompt=PROMPT, steps=1, seconds_total=0.5)
        with_none = code_of(lambda: stub.Generate(ask))
        register(store, version_of(store, parts, "one"))
        with_one = stub.Generate(ask).model
        register(store, version_of(store, parts, "two"))
        with_two = code_of(lambda: stub.Generate(ask))

    assert with_none[0] == grpc.StatusCode.NOT_FOUND
    assert with_one == "one@1"
    assert with_two == (grpc.StatusCode.INVALID_ARGUMENT, "model: must be named: one of one, two")


def test_a_name_that_is_not_served_here_is_not_found(parts, tmp_path):
    settings = settings_for(tmp_path, models=("tiny",))
    with temp_store(tmp_path / "store") as store:
        register(store, version_of(store, parts, "other"))
        with running(build(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            code, details = code_of(lambda: stub.Generate(pb.GenerateRequest(prompt=PROMPT, model="other")))

    assert code == grpc.StatusCode.NOT_FOUND
    assert "served: tiny" in details


class FakeProfile:
    """Enough of a profile for the shelf."""

    def __init__(self, digest: str):
        self.version = type("Version", (), {"digest": digest, "label": digest})()


def test_the_shelf_drops_the_least_recently_used():
    loads: list[str] = []
    shelf = Shelf(lambda profile: loads.append(profile.version.digest), capacity=2)
    for digest in ("a", "b", "a", "c"):
        with shelf.lent(FakeProfile(digest)):
            pass

    assert shelf.loaded() == {"a", "c"}
    assert loads == ["a", "b", "c"]


def test_the_shelf_never_holds_more_than_it_may():
    shelf = Shelf(lambda profile: object(), capacity=1)

    with shelf.lent(FakeProfile("a")), pytest.raises(Unavailable, match="at work"), shelf.lent(FakeProfile("b")):
        pass


def test_two_calls_for_one_model_load_it_once():
    loads: list[str] = []

    def slow(profile):
        time.sleep(0.2)
        loads.append(profile.version.digest)
        return object()

    shelf = Shelf(slow, capacity=1)

    def use():
        with shelf.lent(FakeProfile("a")):
            pass

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()

    assert loads == ["a"]


def test_a_retired_model_stays_while_it_is_used():
    shelf = Shelf(lambda profile: object(), capacity=2)
    with shelf.lent(FakeProfile("a")):
        shelf.retire("a")
        during = shelf.loaded()

    assert (during, shelf.loaded()) == ({"a"}, set())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"device": "cuda"}, "no CUDA device"),
        ({"precision": "bfloat16"}, "needs DEVICE=cuda"),
        ({"models": ("a", "b"), "models_loaded": 1}, "LUTHIER_MODELS_LOADED"),
        ({"text_encoder": "/no/such/folder"}, "LUTHIER_TEXT_ENCODER"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(tmp_path, wrong, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = settings_for(tmp_path)

    with pytest.raises(SettingsError, match=said):
        build(settings.__class__(**{**settings.__dict__, **wrong}))
