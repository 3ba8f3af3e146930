"""The command's manners: exit codes, arguments, names, levels, time to go."""

import math
import struct
import subprocess
import sys
import wave

import pytest

from luthier_pipeline.arguments import parser
from luthier_pipeline.loudness import FLOOR_DB, level_dbfs
from luthier_pipeline.progress import Progress, clock
from luthier_pipeline.resources import as_name, table


def luthier(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from luthier_pipeline.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ or None, check=False)


@pytest.mark.parametrize("arguments", [[], ["dance"], ["run"], ["run", "x", "--in-flight", "0"], ["train"]])
def test_wrong_usage_ends_with_2(arguments):
    assert luthier(*arguments).returncode == 2


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path):
    done = luthier("run", str(tmp_path / "nowhere"), LUTHIER_HOME=str(tmp_path), LUTHIER_STORE_FOLDER=str(tmp_path))
    assert done.returncode == 2
    assert "must be a folder" in done.stderr


def test_the_help_names_every_command():
    text = luthier("--help").stdout
    for command in ("inspect", "ingest", "run", "status", "review", "export", "register", "models", "train", "generate",
                    "evaluate", "promote", "demo", "submit", "monitor"):  # fmt: skip
        assert f"    {command} " in text


def test_every_command_takes_json():
    choices = parser()._subparsers._group_actions[0].choices
    assert all("--json" in command.format_help() for command in choices.values())


def test_names_become_safe_collection_names():
    assert [as_name(text) for text in ("Clean MIDI", "../x", "")] == ["clean-midi", "x", "collection"]


def test_the_time_to_go_follows_the_weight_of_what_is_left(monkeypatch):
    now = iter([0.0, 10.0, 10.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr("luthier_pipeline.progress.time.monotonic", lambda: next(now, 10.0))
    progress = Progress("songs", 2, weight=400)
    progress.advance(100)
    assert progress.eta_s == 30


def test_clock_and_table_are_readable():
    assert (clock(59), clock(3723)) == ("00:59", "1:02:03")
    assert table([["a", "bb"]], ["head", "x"]) == "head  x\na     bb"


def test_levels_of_a_sine_and_of_silence(tmp_path):
    rate, path = 8000, tmp_path / "tone.wav"
    samples = [round(32767 * math.sin(2 * math.pi * 440 * i / rate)) for i in range(rate)] + [0] * rate
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    assert level_dbfs(path, 0, 1) == pytest.approx(-3.01, abs=0.02)
    assert level_dbfs(path, 1) == FLOOR_DB
