"""Models small enough for tests."""

import copy

import pytest

from luthier_model import tiny
from luthier_model.configuration import check, packaged

from .small import small_model

PROMPTS = ["A slow jazz ballad, 90 BPM, piano", "Driving techno at 130 BPM with synth bass"]


@pytest.fixture(scope="session")
def known():
    """The configuration of the tiny model with less of everything."""
    document = copy.deepcopy(dict(packaged("tiny").document))
    document["sample_size"] = 16 * 2048
    document["model"]["diffusion"]["config"]["depth"] = 1
    for side in ("encoder", "decoder"):
        document["model"]["pretransform"]["config"][side]["config"]["channels"] = 2
    return check(document)


@pytest.fixture(scope="session")
def files(known, tmp_path_factory):
    """(weights, text encoder folder) of random weights."""
    return tiny.write_random(known, PROMPTS, tmp_path_factory.mktemp("model"), seed=3)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory):
    """A model that generates."""
    return small_model(tmp_path_factory.mktemp("small"))
