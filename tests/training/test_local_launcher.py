"""A runner beside the service: what it says goes to a log of its own, which no death of the service can break; when it
should stop it has time to, but not for ever.
"""

import signal
import time

import pytest

from luthier_kit.run_state import Run
from luthier_training.launchers import local
from luthier_training.launchers.launcher import DEAD
from luthier_training.launchers.local import LocalLauncher
from luthier_training.settings import TrainingSettings

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def deaf(tmp_path, monkeypatch):
    """A launcher whose runner `deaf` hears no SIGTERM, and that runner's process."""
    monkeypatch.setattr(local, "arguments", lambda *_: ["-c", DEAF])
    launcher = LocalLauncher(TrainingSettings(device="cpu", scratch=tmp_path))
    launcher.launch(Run(id="deaf", kind="training", request={}))
    while not (tmp_path / "luthier-runners/deaf.log").read_text():
        time.sleep(0.01)
    process = launcher._started["deaf"][1]
    yield launcher, process
    process.kill()
    process.wait()


def test_a_runner_writes_to_its_own_log_and_not_to_the_services_pipes(store, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("LUTHIER_STORE_FOLDER", str(tmp_path / "store"))
    launcher = LocalLauncher(TrainingSettings(device="cpu", scratch=tmp_path))
    launcher.launch(Run(id="training-nobody", kind="training", request={}))
    _, process = launcher._started["training-nobody"]
    process.wait(60)
    assert launcher.look()["training-nobody"].state == DEAD
    assert "training-nobody" in (tmp_path / "luthier-runners/training-nobody.log").read_text()
    assert "training-nobody" not in "".join(capfd.readouterr())


def test_a_runner_that_stores_its_checkpoint_is_not_killed(deaf):
    launcher, process = deaf
    for _ in range(3):
        launcher.stop("deaf")
    time.sleep(0.1)
    assert process.poll() is None


def test_a_runner_that_hangs_is_killed(deaf, monkeypatch):
    launcher, process = deaf
    launcher.stop("deaf")
    monkeypatch.setattr(local, "KILL_AFTER_S", 0.0)
    launcher.stop("deaf")
    assert process.wait(10) == -signal.SIGKILL
