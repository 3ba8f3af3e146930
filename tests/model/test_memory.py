"""What generating is estimated to take is what it takes."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from luthier_model import tiny
from luthier_model.configuration import packaged
from luthier_model.generation import (
    MARGIN_LATENTS,
    PIECE_LATENTS,
    Denoising,
    LoadedModel,
    encode,
    evaluate,
    for_serving,
    longest,
    prepare,
)
from luthier_model.loading import load
from luthier_model.memory import CPU_CONVOLUTIONS, bytes_of, footprint
from tests.support.measure import allocated

from .families import small_family
from .small import ModelFiles


def served(files: ModelFiles) -> LoadedModel:
    network = load(files.configuration, files.weights, files.text_encoder)
    for_serving(network, "float32")
    return prepare(network, files.configuration, torch.device("cpu"), "float32")


@pytest.mark.parametrize("family", ["stable_audio_open", "stable_audio_open_small", "inpainting", "stable_audio_1"])
def test_passes_take_what_was_counted(family: str, tmp_path: Path) -> None:
    model = served(small_family(family, tmp_path, window_latents=256))
    counted = footprint(model.configuration, "cpu", "float32")
    requests = [Denoising(model, longest(model.configuration)) for _ in range(3)]

    one, three = (allocated(partial(evaluate, some)) for some in (requests[:1], requests))

    weights = bytes_of(*model.network.parameters(), *model.network.buffers())
    assert counted.weights == pytest.approx(weights, rel=0.01)
    assert one == pytest.approx(2 * counted.row, rel=0.1)
    assert three == pytest.approx(6 * counted.row, rel=0.1)


def test_the_autoencoder_takes_what_was_counted(tmp_path: Path) -> None:
    known = packaged("small")
    weights, text = tiny.write_random(known, ["calm piano"], tmp_path, seed=1)
    model, counted = served(ModelFiles(known, weights, text)), footprint(known, "cpu", "float32")
    latents = torch.zeros(1, known.latent_channels, PIECE_LATENTS + 2 * MARGIN_LATENTS)

    with torch.inference_mode():
        decoded = allocated(lambda: model.network.pretransform.decode(latents[:, :, : known.window_latents]))
        encoded = allocated(lambda: encode(model, torch.zeros(1, known.channels, known.window_samples)))

    assert counted.piece / CPU_CONVOLUTIONS <= 1.01 * decoded <= 1.01 * counted.piece
    assert counted.init_audio / CPU_CONVOLUTIONS <= 1.01 * encoded <= 1.01 * counted.init_audio


def test_bfloat16_halves_the_transformer() -> None:
    whole, half = (footprint(packaged(), "cuda", precision) for precision in ("float32", "bfloat16"))

    linear = 1_057_000_000  # parameters of its transformer (Evans 2024), nearly all in linear layers
    assert whole.weights - half.weights == pytest.approx(2 * linear, rel=0.02)


def test_threads_that_counted_and_ended_leave_the_process_well() -> None:
    """As those of a service's calls do."""
    counting = """
import threading
from luthier_model.configuration import packaged
from luthier_model.memory import _footprint, footprint

counted = []
for _ in range(4):
    thread = threading.Thread(target=lambda: counted.append(footprint(packaged("tiny"), "cpu", "float32")))
    thread.start()
    thread.join()
    _footprint.cache_clear()
assert counted[0].row and len(set(counted)) == 1 and len(counted) == 4
"""
    # of these tests' environment alone: without what training on images needs
    without_images = "import sys, importlib.util as u, importlib.machinery as m\n"
    without_images += "sys.modules['k_diffusion'] = u.module_from_spec(m.ModuleSpec('k_diffusion', None))\n"
    subprocess.run([sys.executable, "-c", without_images + counting], check=True, timeout=120)
