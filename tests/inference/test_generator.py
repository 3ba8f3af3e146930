"""A generation is stopped within a step, and a device without memory is busy."""

import threading

import pytest
import torch

from luthier_inference import generator as generator_module
from luthier_inference.generator import Generator, memory_bounded
from luthier_inference.model_cache import ModelCache
from luthier_inference.request import GenerationJob
from luthier_inference.served_models import ServedVersion
from luthier_kit.rpc import Cancelled, Unavailable
from luthier_model.generation import GenerationParameters, LoadedModel
from luthier_model.loading import load
from tests.support.services import temp_store

from .conftest import version_of


@pytest.mark.parametrize("at", [1, 3])
def test_no_step_begins_after_the_stop(model_files, tmp_path, at, monkeypatch):
    network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
    model = LoadedModel(network, model_files.configuration, torch.device("cpu"))
    begun, denoise, stop = [], generator_module.denoise, threading.Event()

    def watched(*args):
        for step in denoise(*args):
            begun.append(step.number)
            yield step

    def on_step(progress):
        if progress.step == at:
            stop.set()

    monkeypatch.setattr(generator_module, "denoise", watched)
    with temp_store(tmp_path / "store") as store:
        served = ServedVersion(version_of(store, model_files, "tiny"), model_files.configuration)
        generator = Generator(store, ModelCache(lambda _: model, 1), "float32", tmp_path)
        parameters = GenerationParameters("calm piano", seed=11, seconds_total=2.0, steps=1000)
        with pytest.raises(Cancelled):
            generator.generate(GenerationJob(served, parameters), on_step, stop)

    assert begun == list(range(1, at + 1))
    assert not list(tmp_path.glob("generation-*"))


def test_a_device_without_memory_left_is_unavailable():
    with pytest.raises(Unavailable, match="memory"), memory_bounded():
        raise torch.OutOfMemoryError
