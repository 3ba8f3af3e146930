"""Models small enough for tests, and k-diffusion's samplers to compare with."""

import copy
import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path

# The package without its `__init__`, which imports data augmentation and evaluation of images: 40 packages more.
if (spec := find_spec("k_diffusion")) and "k_diffusion" not in sys.modules:
    sys.modules["k_diffusion"] = module_from_spec(spec)
    from k_diffusion import external, sampling  # noqa: F401 - stable-audio-tools asks for them by attribute

import pytest

from luthier_model import tiny
from luthier_model.configuration import Configuration, check, packaged

from .small import ModelFiles, small_model

PROMPTS = ["A slow jazz ballad, 90 BPM, piano", "Driving techno at 130 BPM with synth bass"]


@pytest.fixture(scope="session")
def known() -> Configuration:
    """The configuration of the tiny model with less of everything."""
    document = copy.deepcopy(dict(packaged("tiny").document))
    document["sample_size"] = 16 * 2048
    document["model"]["diffusion"]["config"]["depth"] = 1
    for side in ("encoder", "decoder"):
        document["model"]["pretransform"]["config"][side]["config"]["channels"] = 2
    return check(document)


@pytest.fixture(scope="session")
def files(known: Configuration, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(weights, text encoder folder) of random weights."""
    return tiny.write_random(known, PROMPTS, tmp_path_factory.mktemp("model"), seed=3)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A model that generates."""
    return small_model(tmp_path_factory.mktemp("small"))
