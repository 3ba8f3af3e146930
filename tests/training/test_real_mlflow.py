"""The MLflow tracker against MLflow's own server, read by its REST interface (`make test-mlflow`)."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import FineTune
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import MAX_PROMPT_CHARS
from luthier_kit.store import Store
from luthier_training import trackers
from luthier_training.recipes import RECIPES
from luthier_training.reporting import Reporter, Stopped
from tests.support.services import require_tool

from .test_fine_tune import TUNE, StopsAtFive, job
from .test_observations import OFF, log_of

pytestmark = pytest.mark.mlflow

STARTS_WITHIN_S = 300
STEPS = 8
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Tells its makers nothing, and starts no processes for jobs that nobody asks for."""


class Server:
    """An MLflow on a free loopback port, with a database that outlives it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it serves."""
        log = self.folder / "server.log"
        options = f"--host 127.0.0.1 --port {self.port} --workers 1 --backend-store-uri sqlite:///{self.folder}/m.db"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [require_tool("mlflow"), "server", *options.split(), "--artifacts-destination", self.folder / "files"],
                env={**os.environ, **QUIET}, cwd=self.folder, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        ends = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < ends and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError(f"MLflow does not serve: {log.read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """All its processes at once, as when a machine goes."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def asked(self, method: str, **values: Any) -> Any:
        """The answer to a GET."""
        address = f"{self.url}/api/2.0/mlflow/{method}?{urllib.parse.urlencode(values)}"
        with urllib.request.urlopen(address, timeout=20) as answer:
            return json.load(answer)

    def runs(self, name: str) -> list[Any]:
        """The runs of that name in the experiment `luthier`."""
        experiment = self.asked("experiments/get-by-name", experiment_name="luthier")["experiment"]
        body = {"experiment_ids": [experiment["experiment_id"]], "filter": f"attributes.run_name = '{name}'"}
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/runs/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return list(json.load(answer).get("runs", []))

    def curves(self, run: Any) -> dict[str, list[tuple[int, float]]]:
        """Every metric of a run, (step, value) in the order of steps."""
        tags = [metric["key"] for metric in run["data"].get("metrics", [])]
        found = {}
        for tag in tags:
            points = self.asked("metrics/get-history", run_id=run["info"]["run_id"], metric_key=tag)["metrics"]
            found[tag] = sorted((int(point.get("step", 0)), float(point["value"])) for point in points)
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, which it may kill."""
    (tmp_path / "mlflow").mkdir()
    yield from serving(tmp_path / "mlflow")


def serving(folder: Path) -> Iterator[Server]:
    found = Server(folder)
    try:
        found.start()
        yield found
    finally:
        found.kill()


def parameters(run: Any) -> dict[str, str]:
    return {param["key"]: param["value"] for param in run["data"]["params"]}


def test_a_run_has_its_name_parameters_every_value_and_its_end(
    store: Store,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    asked, own = job(store, dataset_ref, tmp_path / "a", "whole", fine_tune=FineTune(steps=STEPS, **TUNE | OFF))
    RECIPES["fine_tune"](asked)
    [run] = server.runs(own.id)
    found = log_of(store, own.read().progress, tmp_path / "log")
    logged: dict[str, list[tuple[int, Any]]]
    logged = {tag: [(e.step, pytest.approx(e.value)) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert server.curves(run) == logged
    assert len(logged["train/loss"]) == STEPS
    told = parameters(run)
    assert (told["model_name"], told["seed"], told["recipe"]) == ("tuned", "4", "fine_tune")
    assert dataset_ref.sha256 in told["dataset"]
    assert (told["fine_tune.steps"], float(told["fine_tune.learning_rate"])) == ("8", 3e-3)
    assert run["info"]["status"] == "FINISHED"


def test_a_stopped_run_is_killed_there_and_goes_on_as_the_same_run(
    store: Store,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    tune = FineTune(steps=STEPS, **TUNE | OFF)
    first, own = job(store, dataset_ref, tmp_path / "a", "stopped", StopsAtFive, fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    own.heartbeat.stop()
    [run] = server.runs(own.id)
    assert run["info"]["status"] == "KILLED"
    RECIPES["fine_tune"](job(store, dataset_ref, tmp_path / "b", "stopped", fine_tune=tune)[0])
    [again] = server.runs(own.id)
    assert (again["info"]["run_id"], again["info"]["status"]) == (run["info"]["run_id"], "FINISHED")
    assert [step for step, _ in server.curves(again)["train/loss"]] == list(range(1, STEPS + 1))


def test_a_run_that_fails_is_failed_there(
    store: Store, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    asked, own = job(store, dataset_ref, tmp_path / "a", "failed", fine_tune=FineTune(steps=STEPS, **TUNE | OFF))

    def diverge() -> None:
        with trackers.Trackers.of(asked) as reported:
            reported.report("train/loss", 1, float("nan"))
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        diverge()
    [run] = server.runs(own.id)
    assert run["info"]["status"] == "FAILED"
    assert [step for step, _ in server.curves(run)["train/loss"]] == [1]


def test_parameters_longer_than_mlflow_takes_do_not_lose_the_run(
    store: Store, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    prompts = [f"{number} ".ljust(MAX_PROMPT_CHARS, "é") for number in range(8)]
    tune = FineTune(steps=STEPS, sample_prompts=prompts, **TUNE)
    asked, own = job(store, dataset_ref, tmp_path / "a", "long", fine_tune=tune)
    with trackers.Trackers.of(asked) as reported:
        reported.report("train/loss", 1, 0.5)
    [run] = server.runs(own.id)
    assert server.curves(run)["train/loss"] == [(1, 0.5)]
    assert parameters(run)["fine_tune.sample_prompts"].startswith('["0 ')


def test_training_goes_on_when_the_server_dies_and_what_it_had_stays(
    store: Store,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    frail: Server,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", frail.url)

    class Kills(Reporter):
        def advance(self, done: int, *rest: Any) -> None:
            super().advance(done, *rest)
            if self.progress.stage == "train" and done == 5:
                wait_for(frail, own.id, 3)
                frail.kill()

    asked, own = job(store, dataset_ref, tmp_path / "a", "dies", Kills, fine_tune=FineTune(steps=STEPS, **TUNE | OFF))
    began = time.monotonic()
    version = RECIPES["fine_tune"](asked)
    took_s = time.monotonic() - began
    assert version.notes["validation"][-1][0] == STEPS
    said = [record.getMessage() for record in caplog.records if record.name == trackers.__name__]
    assert said[0].startswith("MLflow cannot be reported to now, the run goes on: ")
    assert said[-1].endswith("values were not reported to MLflow")
    assert took_s < trackers.CLOSE_TIMEOUT_S + STARTS_WITHIN_S
    frail.start()
    [run] = frail.runs(own.id)
    steps = [step for step, _ in frail.curves(run)["train/loss"]]
    assert steps == list(range(1, len(steps) + 1))
    assert 3 <= len(steps) < STEPS
    assert run["info"]["status"] == "RUNNING"


def test_a_server_that_comes_back_has_every_step_once(
    store: Store,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frail: Server,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", frail.url)
    monkeypatch.setattr(trackers, "RETRY_S", 0.2)

    class Restarts(Reporter):
        def advance(self, done: int, *rest: Any) -> None:
            super().advance(done, *rest)
            if self.progress.stage == "train" and done == 4:
                wait_for(frail, own.id, 3)
                frail.kill()
            if self.progress.stage == "train" and done == 6:
                frail.start()

    tune = FineTune(steps=STEPS, **TUNE | OFF)
    asked, own = job(store, dataset_ref, tmp_path / "a", "returns", Restarts, fine_tune=tune)
    RECIPES["fine_tune"](asked)
    [run] = frail.runs(own.id)
    assert [step for step, _ in frail.curves(run)["train/loss"]] == list(range(1, STEPS + 1))
    assert run["info"]["status"] == "FINISHED"


def wait_for(server: Server, name: str, steps: int) -> None:
    """Until the server has so many steps of a run's loss: the tracker has a thread of its own."""
    ends = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < ends:
        try:
            if any(len(server.curves(run).get("train/loss", [])) >= steps for run in server.runs(name)):
                return
        except urllib.error.HTTPError:  # no such experiment yet
            pass
        time.sleep(0.1)
    raise AssertionError(f"no {steps} steps of {name} reached MLflow")
