"""How the demo hears whether the tiny model stops, and how it calls the commands that it shows."""

import math
import struct
import wave
from pathlib import Path

import pytest

from luthier.inference.v1.inference_pb2 import ListModelsResponse
from luthier_pipeline.console import Context
from luthier_pipeline.demo import FLOOR_DB, level_dbfs
from luthier_pipeline.nested import command
from tests.pipeline.fakes import FakeClients, Stub


def test_levels_of_a_sine_and_of_silence(tmp_path: Path) -> None:
    """A full-scale sine has an RMS level of -3.01 dBFS."""
    rate, path = 8000, tmp_path / "tone.wav"
    samples = [round(32767 * math.sin(2 * math.pi * 440 * i / rate)) for i in range(rate)] + [0] * rate
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    assert level_dbfs(path, 0, 1) == pytest.approx(-3.01, abs=0.02)
    assert level_dbfs(path, 1) == FLOOR_DB


def test_a_step_of_the_demo_shows_its_line_and_keeps_standard_output_for_the_demos_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    context = Context(FakeClients(inference=Stub(ListModels=ListModelsResponse())), as_json=True)
    command(context, "models", type(None))
    done = capsys.readouterr()
    assert done.out == ""
    assert done.err.startswith("\n$ luthier models\nmodel")
