"""A training checkpoint, in half precision and without its autoencoder, is converted, registered, and generates."""

import dataclasses
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from luthier.inference.v1 import inference_pb2 as pb
from luthier_model.conversion.__main__ import main
from tests.model.small import ModelFiles

from .conftest import Served, refusal
from .test_registration import registration

PROMPT = "calm piano"


@pytest.fixture(scope="module")
def converted(model_files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """By the command, from a training wrapper's checkpoint and an autoencoder's file."""
    folder = tmp_path_factory.mktemp("converted")
    state = load_file(model_files.weights)
    encoder = {name: tensor for name, tensor in state.items() if name.startswith("pretransform.")}
    trained = {f"diffusion.{name}": tensor.half() for name, tensor in state.items() if name not in encoder}
    average = {f"diffusion_ema.ema_model.{n[6:]}": t.half() for n, t in state.items() if n.startswith("model.")}
    counters = {"diffusion_ema.initted": torch.ones(1), "diffusion_ema.step": torch.tensor([100])}
    torch.save({"state_dict": trained | average | counters, "optimizer_states": [{}]}, folder / "dit.ckpt")
    torch.save({"state_dict": {f"autoencoder.{n[19:]}": t for n, t in encoder.items()}}, folder / "vae.ckpt")
    (folder / "model_config.json").write_text(json.dumps(dict(model_files.configuration.document)))
    arguments = [f"{folder}/dit.ckpt", "--json", "--config", f"{folder}/model_config.json"]
    arguments += ["--autoencoder", f"{folder}/vae.ckpt", "--out", f"{folder}/out"]
    with redirect_stdout(io.StringIO()) as said:
        assert main(arguments) == 0
    assert json.loads(said.getvalue())["written"] == f"{folder}/out/weights.safetensors"
    return dataclasses.replace(model_files, weights=folder / "out/weights.safetensors")


def test_it_generates(served: Served, converted: ModelFiles) -> None:
    model = served.stub.RegisterModel(registration(served.store, converted, name="converted")).model
    request = pb.GenerateRequest(prompt=PROMPT, steps=2, model="converted", seconds_total=0.5, seed=1)
    response = served.stub.Generate(request)
    assert response.model_digest == model.digest
    assert response.samples == 8000


def test_it_sounds_as_the_model_that_was_saved(served: Served, converted: ModelFiles, model_files: ModelFiles) -> None:
    """The autoencoder is the same, the transformer rounded to half precision."""
    found, original = load_file(converted.weights), load_file(model_files.weights)
    assert set(found) == set(original)
    assert all(torch.equal(found[n], t) for n, t in original.items() if n.startswith("pretransform."))
    assert all(
        torch.equal(found[n], t.half().float()) for n, t in original.items() if not n.startswith("pretransform.")
    )


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_service_refuses_the_same_file_unconverted(
    served: Served, converted: ModelFiles, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"dit{suffix}"
    path.write_bytes((converted.weights.parents[1] / "dit.ckpt").read_bytes())
    ref = served.store.blobs.put_file("checkpoints", path)
    request = registration(served.store, converted, name="unconverted", checkpoint=ref)
    _, details = refusal(lambda: served.stub.RegisterModel(request))
    assert "safetensors" in details
