"""Random weights of a configuration's shape, for tests and for making a new model."""

from __future__ import annotations

import torch
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier_model.configuration import Configuration
from luthier_model.skeleton import skeleton


def random_model(configuration: Configuration, seed: int) -> ConditionedDiffusionModelWrapper:
    """The model with the library's own initialisation, without its T5 encoder. Leaves torch's generator as it
    was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return skeleton(configuration, "cpu")
