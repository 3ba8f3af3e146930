"""A runner beside the service: what it says goes to a log of its own, which no death of the service can break."""

from luthier_kit.run_state import Run
from luthier_training.launchers.launcher import DEAD
from luthier_training.launchers.local import LocalLauncher
from luthier_training.settings import TrainingSettings


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
