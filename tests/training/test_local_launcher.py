"""A runner beside the service: what it says goes to a log of its own, which no death of the service can break; when it
should stop it has time to, but not for ever.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TrainingProgress, TrainingResult
from luthier_kit.registry import Run
from luthier_kit.store import Store
from luthier_training.launchers import local
from luthier_training.launchers.launcher import WorkState
from luthier_training.launchers.local import LocalLauncher
from luthier_training.runs import TrainingRun
from luthier_training.settings import TrainingSettings

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def run(run_id: str) -> TrainingRun:
    now = datetime.now(UTC)
    return Run(run_id, "training", CreateTrainingRunRequest(), TrainingProgress(), TrainingResult(), now, now)


@pytest.fixture
def stubborn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LocalLauncher, subprocess.Popen[bytes]]]:
    """A launcher with a runner that ignores SIGTERM, and that runner's process."""
    monkeypatch.setattr(local, "runner_arguments", lambda *_: ["-c", STUBBORN])
    launcher = LocalLauncher(TrainingSettings(device="cpu", scratch=tmp_path))
    launcher.launch(run("stubborn"))
    while not (tmp_path / "luthier-runners/stubborn.log").read_text():
        time.sleep(0.01)
    process = launcher._runners["stubborn"].process
    yield launcher, process
    process.kill()
    process.wait()


def test_a_runner_writes_to_its_own_log_and_not_to_the_services_pipes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("LUTHIER_STORE_FOLDER", str(tmp_path / "store"))
    launcher = LocalLauncher(TrainingSettings(device="cpu", scratch=tmp_path))
    launcher.launch(run("training-nobody"))
    launcher._runners["training-nobody"].process.wait(60)
    assert launcher.list_work()["training-nobody"].state == WorkState.EXITED
    assert "training-nobody" in (tmp_path / "luthier-runners/training-nobody.log").read_text()
    assert "training-nobody" not in "".join(capfd.readouterr())


def test_a_runner_that_stores_its_checkpoint_is_not_killed(
    stubborn: tuple[LocalLauncher, subprocess.Popen[bytes]],
) -> None:
    launcher, process = stubborn
    for _ in range(3):
        launcher.stop("stubborn")
    time.sleep(0.1)
    assert process.poll() is None


def test_a_runner_that_hangs_is_killed(
    stubborn: tuple[LocalLauncher, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher, process = stubborn
    launcher.stop("stubborn")
    monkeypatch.setattr(local, "KILL_AFTER_S", 0.0)
    launcher.stop("stubborn")
    assert process.wait(10) == -signal.SIGKILL
