"""A generation is stopped within a step, and a device without memory is busy."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.credentials.signer import Signer
from luthier_inference.generator import Generator, memory_bounded
from luthier_inference.known_outputs.kept import KnownOutputs
from luthier_inference.memory import Estimates, Memory
from luthier_inference.model_cache import ModelCache
from luthier_inference.request import GenerationJob
from luthier_inference.served_models import ServedVersion
from luthier_inference.watermark import Watermarker
from luthier_kit.rpc import Cancelled, Unavailable
from luthier_model.generation import Denoising, GenerationParameters, LoadedModel, evaluate
from luthier_model.loading import load
from tests.model.small import ModelFiles
from tests.support.services import temp_store

from .conftest import device, loads_no_adapter, version_of


@pytest.mark.parametrize("at", [1, 3])
def test_no_step_begins_after_the_stop(
    model_files: ModelFiles, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load(model_files.configuration, model_files.weights, model_files.text_encoder)
    model = LoadedModel(network, model_files.configuration, torch.device("cpu"))
    passes: list[int] = []
    stop = threading.Event()

    def watched(together: Sequence[Denoising]) -> None:
        passes.append(len(together))
        evaluate(together)

    def on_progress(progress: pb.GenerateProgress) -> None:
        if progress.step == at:
            stop.set()

    monkeypatch.setattr("luthier_inference.work.evaluate", watched)
    with temp_store(tmp_path / "store") as store, device() as scheduler:
        served = ServedVersion(version_of(store, model_files, "tiny"), model_files.configuration)
        memory, estimates = Memory(1 << 60), Estimates("cpu", "float32", None)
        cache = ModelCache(lambda _: model, loads_no_adapter, 1, memory, estimates.model)
        marks = (Signer(None), Watermarker(None), KnownOutputs(store, 0))
        generator = Generator(store, cache, scheduler, memory, estimates, "float32", tmp_path, *marks)
        parameters = GenerationParameters("calm piano", seed=11, seconds_total=2.0, steps=1000)
        with pytest.raises(Cancelled):
            generator.generate(GenerationJob(served, parameters), on_progress, stop)

    assert passes == [1] * at
    assert not list(tmp_path.glob("generation-*"))


def test_a_device_without_memory_left_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="memory"), memory_bounded():
        raise torch.OutOfMemoryError
