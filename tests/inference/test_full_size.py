"""Stable Audio Open's full-size configuration with random weights: one denoising step."""

from pathlib import Path

import pytest
import torch

from luthier_inference.generation import Model, denoise
from luthier_inference.order import Order
from luthier_model import configuration
from luthier_model.loading import add_text_encoder, finish
from luthier_model.random_weights import random_model
from luthier_model.skeleton import text_width
from luthier_model.tiny_text import make_text_encoder

PROMPT = "calm piano in D minor at 90 BPM"


@pytest.mark.slow
def test_a_denoising_step_at_full_size(tmp_path: Path):
    """35 s of two cores and 5 GB of memory; the text encoder is small, as wide as t5-base's states."""
    known = configuration.packaged()
    make_text_encoder([PROMPT], text_width(known), tmp_path, seed=1)
    network = random_model(known, seed=1)
    add_text_encoder(network, known, tmp_path)
    model = Model(finish(network, "cpu"), known, torch.device("cpu"))

    (step,) = denoise(model, Order(PROMPT, 1, 10.0, steps=1, guidance_scale=1.0))

    assert step.latents.shape == (1, 64, 1024)
    assert torch.isfinite(step.latents).all()
