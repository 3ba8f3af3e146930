"""What the demo asks its model for, and how it calls the commands that it shows."""

import pytest

from luthier.inference.v1.inference_pb2 import ListModelsResponse
from luthier_pipeline.console import Context
from luthier_pipeline.demo import HEARD, TEMPI_BPM, suite
from luthier_pipeline.experiment.songs import songs
from luthier_pipeline.nested import command
from tests.pipeline.fakes import FakeClients, Stub


def test_it_asks_for_the_tempi_of_its_songs_and_a_model_that_ignores_them_does_not_pass() -> None:
    rows = suite()
    assert {row["tempo_bpm"] for row in rows} == {song.tempo_bpm for song in songs(TEMPI_BPM)}
    assert all(f" {row['tempo_bpm']} beats per minute" in str(row["prompt"]) for row in rows)
    assert len({row["prompt"] for row in rows}) == len(rows) == 24  # a promotion asks for 20
    often = max(sum(row["tempo_bpm"] == tempo for row in rows) for tempo in TEMPI_BPM)  # a model of one tempo
    assert often / len(rows) < HEARD
    kin = [(a, b) for a in TEMPI_BPM for b in TEMPI_BPM if a != b and any(abs(a / b / k - 1) < 0.04 for k in (2, 3))]
    assert not kin  # Accuracy 2 would take one for the other


def test_a_step_of_the_demo_shows_its_line_and_keeps_standard_output_for_the_demos_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    context = Context(FakeClients(inference=Stub(ListModels=ListModelsResponse())), as_json=True)
    command(context, "models", type(None))
    done = capsys.readouterr()
    assert done.out == ""
    assert done.err.startswith("\n$ luthier models\nmodel")
