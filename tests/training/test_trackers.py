"""What W&B and MLflow are told of a run, and that neither can harm it."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import FineTune
from luthier_kit.registry import ModelVersion
from luthier_kit.store import Store
from luthier_training import trackers
from luthier_training.job import Job
from luthier_training.ranks import Ranks
from luthier_training.recipes import RECIPES
from luthier_training.reporting import Stopped
from luthier_training.trackers import Ending, MlflowTracker, Point, Trackers, WandbTracker, parameters_of, safe

from .test_fine_tune import TUNE, StopsAtFive, job
from .test_observations import OFF, log_of

SECRET = "c0ffee" * 7
ADDRESS = "http://anna:pa55word@127.0.0.1:9"
"""Nobody listens there."""


def installed(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: uv sync --extra trackers")


class Memory:
    """A server in this process; the first `failing` calls fail."""

    name = "memory"

    def __init__(self, failing: float = 0) -> None:
        self.points, self.endings, self.failing = list[Point](), list[Ending](), failing

    def start(self) -> None:
        self._answer()

    def report(self, points: Sequence[Point]) -> None:
        self._answer()
        self.points += points

    def finish(self, ending: Ending) -> None:
        self._answer()
        self.endings.append(ending)

    def steps(self, tag: str) -> list[int]:
        return [point.step for point in self.points if point.tag == tag]

    def _answer(self) -> None:
        self.failing -= 1
        if self.failing >= 0:
            raise ConnectionError(f"{ADDRESS}/api does not answer to {SECRET}")


def tuned(store: Store, dataset_ref: ArtifactRef, folder: Path, **options: int) -> Job:
    return job(store, dataset_ref, folder, fine_tune=FineTune(steps=8, **TUNE | OFF | options))[0]


def use(monkeypatch: pytest.MonkeyPatch, *used: trackers.Tracker) -> None:
    monkeypatch.setattr(Trackers, "of", lambda _: Trackers(used))


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, []),
        ({"WANDB_PROJECT": "p", "MLFLOW_EXPERIMENT_NAME": "e", "WANDB_MODE": "online"}, []),
        ({"WANDB_API_KEY": SECRET}, ["W&B"]),
        ({"WANDB_MODE": "offline"}, ["W&B"]),
        ({"WANDB_API_KEY": SECRET, "WANDB_MODE": "disabled"}, []),
        ({"MLFLOW_TRACKING_URI": ADDRESS}, ["MLflow"]),
        ({"MLFLOW_TRACKING_URI": ADDRESS, "WANDB_API_KEY": SECRET}, ["W&B", "MLflow"]),
    ],
)
def test_their_own_variables_turn_them_on(
    store: Store,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    names: list[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asked = tuned(store, dataset_ref, tmp_path / "a")
    assert [tracker.name for tracker in Trackers.of(asked).trackers] == names
    assert Trackers.of(replace(asked, ranks=Ranks(1, 2))).trackers == [], "rank 0 alone reports"


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "WANDB_API_KEY_FILE"])
def test_wandb_is_disabled_only_without_a_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """luthier_model disables it before stable-audio-tools imports it."""

    def mode() -> str:
        script = "import os, luthier_model; print(os.environ.get('WANDB_MODE'))"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    assert mode() == "disabled"
    monkeypatch.setenv(name, SECRET)
    assert mode() == "None"


def test_a_secret_may_come_from_a_file(
    store: Store, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")  # so that it is put back
    (tmp_path / "key").write_text(f"{SECRET}\n")
    monkeypatch.setenv("WANDB_API_KEY_FILE", str(tmp_path / "key"))
    [tracker] = Trackers.of(tuned(store, dataset_ref, tmp_path / "a")).trackers
    assert tracker.name == "W&B"
    assert os.environ["WANDB_API_KEY"] == SECRET


def test_a_tracker_is_told_what_tensorboard_shows(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    use(monkeypatch, memory)
    asked = tuned(store, dataset_ref, tmp_path / "a")
    RECIPES["fine_tune"](asked)
    found = log_of(store, asked.reporter.progress, tmp_path / "log")
    shown = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    told = {tag: [(p.step, pytest.approx(p.value)) for p in memory.points if p.tag == tag] for tag in shown}
    assert shown == told
    assert {point.tag for point in memory.points} == set(shown)
    assert memory.endings == [Ending.FINISHED]


def test_a_run_that_was_stopped_says_so_and_goes_on(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, tune = Memory(), FineTune(steps=8, **TUNE | OFF)
    use(monkeypatch, memory)
    first, own = job(store, dataset_ref, tmp_path / "a", "r", StopsAtFive, fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    own.heartbeat.stop()
    RECIPES["fine_tune"](job(store, dataset_ref, tmp_path / "b", "r", fine_tune=tune)[0])
    assert memory.steps("train/loss") == list(range(1, 9))
    assert memory.endings == [Ending.STOPPED, Ending.FINISHED]


def test_a_server_that_is_down_does_not_stop_a_run(
    store: Store,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    memory = Memory(failing=float("inf"))
    use(monkeypatch, memory)
    version = RECIPES["fine_tune"](tuned(store, dataset_ref, tmp_path / "a"))
    assert version.notes["validation"][-1][0] == 8
    said = [record.getMessage() for record in caplog.records if record.name == trackers.__name__]
    assert said[0] == (
        "memory cannot be reported to now, the run goes on: ConnectionError: http://127.0.0.1:9/api does not answer to "
        "<WANDB_API_KEY>"
    )
    assert [line.split(" ", 1)[1] for line in said[1:]] == ["values were not reported to memory"]
    assert SECRET not in caplog.text
    assert "pa55word" not in caplog.text


def test_a_server_that_comes_back_gets_all_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trackers, "RETRY_S", 0.0)
    monkeypatch.setattr(trackers, "BATCH", 2)
    memory, reached = Memory(failing=3), threading.Event()
    memory_report = memory.report

    def report(points: Sequence[Point]) -> None:
        memory_report(points)
        if len(memory.points) == 5:
            reached.set()

    monkeypatch.setattr(memory, "report", report)
    with Trackers([memory]) as reported:
        for step in range(5):
            reported.report("loss", step, 0.5)
        assert reached.wait(60)
    assert memory.steps("loss") == [0, 1, 2, 3, 4]
    assert len(caplog.records) == 1, "it is said once"


def test_a_server_that_hangs_costs_values_and_no_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trackers, "MAX_WAITING", 3)
    monkeypatch.setattr(trackers, "CLOSE_TIMEOUT_S", 0.0)
    memory, answers = Memory(), threading.Event()
    monkeypatch.setattr(memory, "start", answers.wait)
    with Trackers([memory]) as reported:
        for step in range(10):
            reported.report("loss", step, 0.5)
    answers.set()
    assert [record.getMessage() for record in caplog.records] == [
        "memory takes too long: the run does not wait for it",
        "10 values were not reported to memory",
    ]


def test_a_failed_run_ends_as_failed() -> None:
    memory = Memory()
    with pytest.raises(ValueError, match="diverged"), Trackers([memory]):
        raise ValueError("diverged")
    assert memory.endings == [Ending.FAILED]


@pytest.mark.parametrize(
    ("package", "tracker"),
    [("wandb", WandbTracker("training-1", {}, None)), ("mlflow", MlflowTracker("training-1", {}))],
)
def test_a_package_that_is_absent_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, package: str, tracker: trackers.Tracker
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with Trackers([tracker]) as reported:
        reported.report("loss", 1, 0.5)
    assert package in caplog.records[0].getMessage()
    assert "is not installed (extra trackers)" in caplog.records[0].getMessage()
    assert len(caplog.records) == 2, "this, and the value that is lost"


def test_parameters_name_model_data_seed_and_recipe(store: Store, dataset_ref: ArtifactRef, tmp_path: Path) -> None:
    asked = tuned(store, dataset_ref, tmp_path / "a")
    found = parameters_of(asked.request)
    assert found["model_name"] == "tuned"
    assert dataset_ref.sha256 in str(found["dataset"])
    assert (found["seed"], found["recipe"], found["fine_tune.steps"]) == ("4", "fine_tune", 8)
    assert found["fine_tune.base_model"] == "base"
    json.dumps(found)


def test_no_password_of_an_address_is_told() -> None:
    assert safe(OSError(f"GET {ADDRESS}/x:\n refused")) == "OSError: GET http://127.0.0.1:9/x: refused"


@installed("mlflow")
def test_mlflow_has_one_run_with_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the full package writes databases; this one is a client
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    from mlflow.tracking import MlflowClient

    def attempt(first: int, last: int) -> None:
        with Trackers([MlflowTracker("training-1", {"seed": 4})]) as reported:
            for step in range(first, last + 1):
                reported.report("train/loss", step, 1 / step)
            if last < 8:
                raise Stopped

    client = MlflowClient()
    with pytest.raises(Stopped):
        attempt(1, 5)
    [run] = client.search_runs([client.get_experiment_by_name("luthier").experiment_id])
    assert run.info.status == "KILLED"
    attempt(4, 8)
    [run] = client.search_runs([run.info.experiment_id])
    curve = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in curve] == [(step, 1 / step) for step in range(1, 9)]
    assert (run.info.status, run.info.run_name, run.data.params) == ("FINISHED", "training-1", {"seed": "4"})


@installed("mlflow")
def test_mlflows_server_is_down(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    with Trackers([MlflowTracker("training-1", {})]) as reported:
        reported.report("loss", 1, 0.5)
    assert "MLflow cannot be reported to now" in caplog.text
    assert "pa55word" not in caplog.text


@installed("wandb")
def test_wandb_reads_the_run_that_it_was_told_offline(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    import wandb

    wandb.teardown()  # it reads its variables once in a process
    asked = tuned(store, dataset_ref, tmp_path / "a")
    RECIPES["fine_tune"](asked)
    [path] = tmp_path.glob(f"wandb/offline-run-*-{asked.run_id}/run-{asked.run_id}.wandb")
    records = [json.loads(line) for line in inspected(path, "--json").splitlines()]
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record["type"] == "history":
            for tag, value in record["history"]["item"].items():
                if not tag.startswith("_"):  # step and times
                    curves.setdefault(tag, []).append((record["history"]["step"]["num"], value))
    found = log_of(store, asked.reporter.progress, tmp_path / "log")
    expected: dict[str, list[tuple[int, Any]]] = {
        tag: [(event.step, pytest.approx(event.value)) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }
    assert curves == expected
    run = json.loads(inspected(path, "--summary", "--json"))
    assert (run["project"], run["name"], run["state"], run["exit_code"]) == ("luthier", asked.run_id, "finished", 0)
    assert run["config"] == parameters_of(asked.request)


def inspected(path: Path, *how: str) -> str:
    """A run's file as W&B's own reader prints it."""
    line = [sys.executable, "-m", "wandb", "leet", "inspect", *how, str(path)]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=120).stdout


@installed("wandb")
def test_wandbs_server_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trackers, "CALL_TIMEOUT_S", 1)
    monkeypatch.setenv("WANDB_API_KEY", SECRET[:40])
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    import wandb

    wandb.teardown()  # it reads its variables once in a process
    with Trackers([WandbTracker("training-1", {}, tmp_path)]) as reported:
        reported.report("loss", 1, 0.5)
    said = [record.getMessage() for record in caplog.records if record.name == trackers.__name__]
    assert "W&B cannot be reported to now, the run goes on: CommError" in said[0]
    assert said[1:] == ["1 values were not reported to W&B"]
    assert SECRET[:40] not in caplog.text
