"""Naming, loading, watching and losing models, over real gRPC."""

import re
import time
from dataclasses import replace
from pathlib import Path

import grpc
from safetensors.torch import load_file, save_file

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.app import build_service
from luthier_kit.registry import register
from tests.model.small import ModelFiles
from tests.support.services import running, temp_store

from .conftest import Served, refusal, settings_for, version_of

PROMPT = "calm piano"


def test_models_are_listed_newest_first_with_what_is_loaded(served: Served) -> None:
    served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, seconds_total=0.5, model="tiny"))

    (model,) = served.stub.ListModels(pb.ListModelsRequest(name="tiny")).models

    assert (model.name, model.version, model.loaded, model.created_by) == ("tiny", 1, True, "test")
    assert model.HasField("created_at")


def corrupt(folder: Path, key: str) -> None:
    path = folder / "store" / "luthier" / key
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def test_a_corrupt_checkpoint_is_data_loss_and_other_models_go_on(model_files: ModelFiles, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with temp_store(tmp_path / "store") as store:
        broken = register(store, version_of(store, model_files, "broken"))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            corrupt(tmp_path, broken.checkpoint.key)

            code, _ = refusal(lambda: stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1)))
            store.blobs.put_file("checkpoints", model_files.weights)
            mended = stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1))

    assert code == grpc.StatusCode.DATA_LOSS
    assert mended.model == "broken@1"


def trained_on(model_files: ModelFiles, folder: Path) -> Path:
    """Other weights of the same shape."""
    state = {name: tensor * 1.01 for name, tensor in load_file(model_files.weights).items()}
    path = folder / "newer.safetensors"
    save_file(state, path)
    return path


def test_a_served_name_moves_to_its_newer_version_without_a_gap(model_files: ModelFiles, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, models=("tiny",), models_loaded=1, watch_every_s=0.1)
    with temp_store(tmp_path / "store") as store:
        first = register(store, version_of(store, model_files, "tiny"))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            loaded_at_start = [m.digest for m in stub.ListModels(pb.ListModelsRequest()).models if m.loaded]
            newer = version_of(store, model_files, "tiny")
            newer = replace(newer, checkpoint=store.blobs.put_file("checkpoints", trained_on(model_files, tmp_path)))
            register(store, newer)
            answers: list[str] = []
            while (not answers or answers[-1] != "tiny@2") and len(answers) < 200:
                answer = stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1, seconds_total=0.5, seed=len(answers)))
                answers.append(answer.model)
            loaded = [m.version for m in stub.ListModels(pb.ListModelsRequest()).models if m.loaded]

    assert loaded_at_start == [f"sha256:{first.digest}"]
    assert answers == sorted(answers)
    assert answers[-1] == "tiny@2"
    assert loaded == [2]


def test_a_newer_version_that_cannot_be_loaded_leaves_the_older_in_service(
    model_files: ModelFiles, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, models=("tiny",), watch_every_s=0.1)
    with temp_store(tmp_path / "store") as store:
        register(store, version_of(store, model_files, "tiny"))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            bad = version_of(store, model_files, "tiny")
            register(store, replace(bad, checkpoint=store.blobs.put_bytes("checkpoints", b"nothing", "safetensors")))
            time.sleep(0.5)

            answer = stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1))

    assert answer.model == "tiny@1"


def test_without_a_default_a_request_must_name_one_of_several_models(model_files: ModelFiles, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with (
        temp_store(tmp_path / "store") as store,
        running(build_service(settings, store), settings) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        ask = pb.GenerateRequest(prompt=PROMPT, steps=1, seconds_total=0.5)
        with_none = refusal(lambda: stub.Generate(ask))
        register(store, version_of(store, model_files, "one"))
        with_one = stub.Generate(ask).model
        register(store, version_of(store, model_files, "two"))
        with_two = refusal(lambda: stub.Generate(ask))

    assert with_none[0] == grpc.StatusCode.NOT_FOUND
    assert with_one == "one@1"
    assert with_two == (grpc.StatusCode.INVALID_ARGUMENT, "model: must be named: one of one, two")


def test_a_name_that_is_not_served_here_is_not_found(model_files: ModelFiles, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, models=("tiny",))
    with temp_store(tmp_path / "store") as store:
        register(store, version_of(store, model_files, "other"))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            code, details = refusal(lambda: stub.Generate(pb.GenerateRequest(prompt=PROMPT, model="other")))

    assert code == grpc.StatusCode.NOT_FOUND
    assert "served: tiny" in details


def test_registered_bytes_that_are_no_checkpoint_are_data_loss(model_files: ModelFiles, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with temp_store(tmp_path / "store") as store:
        nothing = store.blobs.put_bytes("checkpoints", b"nothing", "safetensors")
        register(store, replace(version_of(store, model_files, "broken"), checkpoint=nothing))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            code, details = refusal(lambda: stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1)))

    assert code == grpc.StatusCode.DATA_LOSS
    assert "model broken@1" in details


def test_a_request_that_memory_never_has_room_for_is_refused_with_both_figures(
    model_files: ModelFiles, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, default_model="tiny", memory_mib=8)
    with temp_store(tmp_path / "store") as store:
        register(store, version_of(store, model_files, "tiny"))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)

            code, details = refusal(lambda: stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=1)))

            loaded = [model for model in stub.ListModels(pb.ListModelsRequest()).models if model.loaded]
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert re.search(r"model tiny@1 takes \d MiB and this request \d+ MiB; this server has 7 MiB", details)
    assert not loaded
