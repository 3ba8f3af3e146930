"""The papers' models at their own size, with random weights: one step of training an adapter, and one of sampling."""

from pathlib import Path

import pytest
import torch

from luthier.common.v1.common_pb2 import ADAPTER_KIND_LORA
from luthier.training.v1.training_pb2 import Adapter, FineTune
from luthier_model.configuration import check
from luthier_model.generation import GenerationParameters, LoadedModel, denoise
from luthier_model.loading import complete
from luthier_model.network import random_model, text_width
from luthier_model.tiny import write_text_encoder
from luthier_training.examples import Batch, Conditions
from luthier_training.recipes import fine_tune
from tests.model.clap import write_clap
from tests.model.families import FAMILIES

TRAINED_LATENTS = 512
"""Window of the training step, in latents: no weight knows the window, and `--window-seconds` trains at any."""
PROMPT = "calm piano in D minor at 90 BPM"


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["stable_audio_1", "stable_audio_2", "stable_audio_open", "stable_audio_open_small_base", "inpainting"]
)
def test_a_step_of_training_and_one_of_sampling(family: str, tmp_path: Path) -> None:
    """Training on a short window, sampling on the whole. Minutes of a core, GB of memory: Stable Audio Open 1.7 and 8.
    Stable Audio 1 took four minutes of two cores and 9 GB when it trained on its whole window, Stable Audio 2 seven
    minutes on a busy machine (5.3 of a core) and 8.8 GB, the one that fills in masks two (1.6) and 8, Stable Audio Open
    Small ten seconds. Text encoders have the published width and few layers.
    """
    known = check(FAMILIES[family]())
    if known.text.type == "clap_text":
        write_clap([PROMPT], tmp_path)
    else:
        write_text_encoder([PROMPT], text_width(known), tmp_path, seed=1)
    model = complete(random_model(known, seed=1), known, tmp_path)
    low_rank = Adapter(kind=ADAPTER_KIND_LORA, rank=2, alpha=2, targets=["attention"])
    trained = fine_tune.prepare(model, FineTune(adapter=low_rank, learning_rate=1e-3), seed=1)
    shape = (1, known.latent_channels, min(TRAINED_LATENTS, known.window_latents))
    dice = torch.Generator().manual_seed(1)
    batch = Batch(
        torch.randn(shape, generator=dice),
        [Conditions(prompt=PROMPT, seconds_start=0.0, seconds_total=10.0)],
        torch.randn(shape, generator=dice),
        torch.tensor([0.5]),
        torch.tensor([False]),
        torch.zeros(1, 1, shape[-1]) if known.masks else None,
    )
    before = [parameter.clone() for parameter in model.parameters() if parameter.requires_grad]

    loss = fine_tune.batch_loss(model, batch, recompute=True)
    loss.backward()  # type: ignore[no-untyped-call]
    trained.optimizer.step()

    after = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert torch.isfinite(loss)
    assert any(not torch.equal(was, now) for was, now in zip(before, after, strict=True))
    loaded = LoadedModel(model.eval(), known, torch.device("cpu"))
    objective = known.objective
    parameters = GenerationParameters(
        PROMPT, 1, 10.0, steps=1, guidance_scale=1.0, sampler=objective.samplers[0], sigma_max=objective.sigma_max
    )
    (step,) = denoise(loaded, parameters)
    assert step.latents.shape == (1, known.latent_channels, known.window_latents)
    assert torch.isfinite(step.latents).all()
