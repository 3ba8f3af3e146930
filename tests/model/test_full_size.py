"""Stable Audio Open's full-size configuration with random weights: one denoising step."""

from pathlib import Path

import pytest
import torch

from luthier_model import configuration
from luthier_model.generation import GenerationParameters, LoadedModel, denoise
from luthier_model.loading import complete
from luthier_model.network import random_model, text_width
from luthier_model.tiny import write_text_encoder

PROMPT = "calm piano in D minor at 90 BPM"


@pytest.mark.slow
def test_a_denoising_step_at_full_size(tmp_path: Path) -> None:
    """35 s of two cores and 5 GB of memory; the text encoder is small, as wide as t5-base's embeddings."""
    known = configuration.packaged()
    write_text_encoder([PROMPT], text_width(known), tmp_path, seed=1)
    model = LoadedModel(complete(random_model(known, seed=1), known, tmp_path), known, torch.device("cpu"))

    (step,) = denoise(model, GenerationParameters(PROMPT, 1, 10.0, steps=1, guidance_scale=1.0))

    assert step.latents.shape == (1, 64, 1024)
    assert torch.isfinite(step.latents).all()
