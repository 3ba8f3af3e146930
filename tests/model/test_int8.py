"""Weights of 8 bits: what a layer makes of them is near, and a model is."""

from pathlib import Path

import pytest
import torch

from luthier_model.generation import Denoising, LoadedModel, evaluate, for_serving, longest, prepare
from luthier_model.int8 import Int8Linear, layers_of
from luthier_model.loading import load
from luthier_model.memory import bytes_of, footprint

from .families import small_family


@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_layer_is_off_by_its_rounding(bias: bool) -> None:
    torch.manual_seed(1)
    layer = torch.nn.Linear(256, 128, bias=bias)
    layer.weight[7] = 0  # a row that has no scale
    x = torch.randn(3, 50, 256)

    found = Int8Linear(layer)(x)

    # of each weight at most half a step, of x a step where it has 7 bits; the errors of 256 products add like noise
    step = layer.weight.abs().amax(1) / 127
    noise = ((step**2 / 12) * (x**2).sum(-1, keepdim=True)).sqrt()  # of the weights, one by one
    steps_of_x = (x.max() - x.min()) / 127
    noise = (noise**2 + steps_of_x**2 / 12 * (layer.weight**2).sum(1)).sqrt()
    assert ((found - layer(x)).abs() <= 6 * noise + 1e-6).all()
    assert torch.allclose(found[..., 7], layer.bias[7] if bias else torch.zeros(()), atol=1e-6)


def served(family: str, folder: Path, precision: str) -> LoadedModel:
    files = small_family(family, folder)
    network = load(files.configuration, files.weights, files.text_encoder)
    for_serving(network, precision)
    return prepare(network, files.configuration, torch.device("cpu"), precision)


@pytest.mark.parametrize("family", ["stable_audio_open", "stable_audio_open_small", "inpainting", "prepended"])
def test_a_models_velocity_is_near(family: str, tmp_path: Path) -> None:
    exact, rounded = (served(family, tmp_path, precision) for precision in ("float32", "int8"))
    latents = []
    for model in (exact, rounded):
        request = Denoising(model, longest(model.configuration))
        evaluate([request])
        latents.append(request.latents)

    apart = (latents[1] - latents[0]).std() / latents[0].std()
    assert 0 < apart < 0.1
    assert not layers_of(rounded.network)


def test_less_memory_is_counted(tmp_path: Path) -> None:
    exact = served("stable_audio_open", tmp_path, "float32")
    whole, less = (footprint(exact.configuration, "cpu", precision) for precision in ("float32", "int8"))

    rounded = sum(bytes_of(layer.weight) for _, _, layer in layers_of(exact.network))
    assert whole.weights - less.weights == rounded * 3 // 4
