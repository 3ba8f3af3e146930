"""convert-checkpoint: what it asks of the process that has torch, and what it makes of its answer."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier_pipeline import convert_checkpoint
from luthier_pipeline.console import UsageError
from tests.pipeline.fakes import luthier

LINE = ["convert-checkpoint", "a.ckpt", "--config", "model_config.json", "--out", "converted"]


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of that Python: it prints its arguments as JSON, and ends with the code in the file `code`."""
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "print(json.dumps(sys.argv[1:]))\n"
        "sys.exit(int((pathlib.Path(__file__).parent / 'code').read_text()))\n"
    )
    program.chmod(0o755)
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv(convert_checkpoint.PYTHON, str(program))
    return tmp_path


def test_it_asks_the_module_for_just_what_was_said(answers: Path) -> None:
    done = luthier(LINE)
    assert (done.code, json.loads(done.out)) == (
        0,
        ["-m", "luthier_model.conversion", "a.ckpt", "--config", "model_config.json", "--out", "converted"],
    )


def test_every_option_is_passed_on(answers: Path) -> None:
    more = ["--autoencoder", "vae.ckpt", "--weights", "online", "--timeout", "9.5", "--json"]
    assert luthier([*LINE, *more]).document[-7:] == more  # type: ignore[index]


@pytest.mark.parametrize("code", [1, 2])
def test_its_exit_code_is_the_commands(answers: Path, code: int) -> None:
    (answers / "code").write_text(str(code))
    assert luthier(LINE).code == code


def test_other_weights_than_there_are_are_wrong_usage(answers: Path) -> None:
    assert luthier([*LINE, "--weights", "best"]).code == 2


def test_without_torch_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="make install"):
        convert_checkpoint.python_of({convert_checkpoint.PYTHON: "/nowhere/python"}, ("training",), "module")


def test_an_environment_of_the_clone_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tmp_path / "services/training/.venv/bin/python"
    found.parent.mkdir(parents=True)
    found.touch()
    monkeypatch.setattr(convert_checkpoint, "__file__", str(tmp_path / "services/pipeline/luthier_pipeline/it.py"))
    assert convert_checkpoint.python_of({}, convert_checkpoint.ENVIRONMENTS, "module") == found


def test_when_it_is_terminated_it_ends_the_process(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    program.chmod(0o755)
    environ = {**os.environ, convert_checkpoint.PYTHON: str(program)}
    command = subprocess.Popen([sys.executable, "-m", "luthier_pipeline", *LINE], env=environ, stderr=subprocess.PIPE)
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
        time.sleep(0.05)
        assert command.poll() is None
    pid = int((tmp_path / "pid").read_text())
    command.send_signal(signal.SIGTERM)
    _, said = command.communicate(timeout=120)
    assert (command.returncode, b"interrupted" in said) == (143, True)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
