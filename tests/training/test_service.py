"""The service as others meet it: real process, real gRPC, runners that are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1 import training_pb2 as pb
from luthier.training.v1.training_pb2_grpc import TrainingServiceStub
from luthier_kit.client import Client
from luthier_kit.errors import FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.models import resolve
from luthier_kit.settings import SettingsError, load
from luthier_training.settings import TrainingSettings

PORT = 17116
TUNE = pb.FineTune(base_model="base", steps=30, batch_size=2, learning_rate=1e-3, checkpoint_every=2, validate_every=15)
LONG = pb.FineTune(  # seconds of steps after the first checkpoint, however quick the machine: time to kill it in
    base_model="base", steps=400, batch_size=2, learning_rate=1e-3, checkpoint_every=20, validate_every=200
)
RUNNER = "luthier_training.runner"


@pytest.fixture
def process(store, tmp_path):
    """The service in a process of its own; yields a function that starts it again."""
    started = []
    environment = {
        **os.environ,
        "DEVICE": "cpu",
        "LUTHIER_TRAINING_THREADS": "1",
        "LUTHIER_ADDRESS": f"127.0.0.1:{PORT}",
        "LUTHIER_METRICS_ADDRESS": f"127.0.0.1:{PORT + 100}",
        "LUTHIER_STORE_FOLDER": str(tmp_path / "store"),
        "LUTHIER_SCRATCH": str(tmp_path / "scratch"),
    }

    def start():
        started.append(subprocess.Popen([sys.executable, "-m", "luthier_training"], env=environment))
        return started[-1]

    yield start
    for one in started:
        one.terminate()
        one.wait(40)


@pytest.fixture
def client():
    found = Client(f"127.0.0.1:{PORT}", TrainingServiceStub, slots_hint=1)
    yield found
    found.close()


def create(client, dataset_ref, request_id="r", **kind):
    kind = kind or {"fine_tune": TUNE}
    request = pb.CreateTrainingRunRequest(request_id=request_id, dataset=dataset_ref, model_name="tuned", **kind)
    return client.call("CreateTrainingRun", request, timeout_s=20, patience_s=60).run


def watch(client, run_id):
    request = pb.WatchTrainingRunRequest(run_id=run_id)
    return (response.run for response in client.stream("WatchTrainingRun", request, timeout_s=300))


def runner_of(run_id: str) -> int:
    """Process id of the run's runner."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                command = Path(entry.path, "cmdline").read_text()
            except OSError:
                continue
            if RUNNER in command and run_id in command:
                return int(entry.name)
    raise AssertionError("no runner")


def test_a_run_survives_the_death_of_its_runner_and_of_the_service(process, client, store, base, dataset_ref):
    service = process()
    kind = {"fine_tune": LONG}
    run = create(client, dataset_ref, **kind)
    for seen in watch(client, run.run_id):
        if seen.HasField("checkpoint"):
            break
    runner = runner_of(run.run_id)
    os.kill(service.pid, signal.SIGKILL)
    os.kill(runner, signal.SIGKILL)
    service.wait()
    for key in list(store.objects.keys(f"heartbeats/{run.run_id}/")):
        store.objects.delete(key)  # as if the expiry had passed
    process()
    again = create(client, dataset_ref, **kind)
    assert again.run_id == run.run_id
    last = list(watch(client, run.run_id))[-1]
    assert pb.RunState.Name(last.state) == "RUN_STATE_SUCCEEDED"
    assert last.attempts == 2
    assert [point.step for point in last.validation] == [0, 200, 400]
    assert f"sha256:{resolve(store, last.model).digest}" == last.model_digest


def test_refusals_name_what_is_wrong(process, client, store, base, dataset_ref):
    process()
    with pytest.raises(InvalidRequest) as refused:
        create(client, dataset_ref, fine_tune=pb.FineTune(base_model="base", steps=0))
    assert "fine_tune.steps" in dict(refused.value.violations)
    with pytest.raises(NotFound, match="no model 'nobody'"):
        create(client, dataset_ref, fine_tune=pb.FineTune(base_model="nobody"))
    with pytest.raises(NotFound):
        create(client, ArtifactRef(key=f"manifests/{'0' * 64}.json", sha256="0" * 64))
    with pytest.raises(FailedPrecondition) as refused:
        create(client, ArtifactRef(key=dataset_ref.key, sha256="0" * 64))
    assert refused.value.reason == "ARTIFACT_DIGEST_MISMATCH"
    with pytest.raises(NotFound):
        client.call("GetTrainingRun", pb.GetTrainingRunRequest(run_id="training-" + "0" * 32), timeout_s=10)
    listed = client.call("ListTrainingRuns", pb.ListTrainingRunsRequest(), timeout_s=10)
    assert not listed.runs


@pytest.mark.slow
def test_a_wrong_checkpoint_and_a_cancel_end_their_runs(process, client, store, known, base_files, base, dataset_ref):
    from luthier_model.configuration import packaged

    from .conftest import register_base

    register_base(store, packaged("tiny"), base_files, "wrong")
    process()
    run = create(client, dataset_ref, "wrong", fine_tune=pb.FineTune(base_model="wrong", steps=4))
    failed = list(watch(client, run.run_id))[-1]
    assert (pb.RunState.Name(failed.state), failed.error.code) == ("RUN_STATE_FAILED", 9)
    assert "wrong@1" in failed.error.message
    run = create(client, dataset_ref, "long", fine_tune=pb.FineTune(base_model="base", steps=1_000_000, batch_size=1))
    began = None
    for seen in watch(client, run.run_id):
        if began is None and seen.HasField("loss"):
            began = time.monotonic()
            client.call(
                "CancelTrainingRun", pb.CancelTrainingRunRequest(run_id=run.run_id, reason="enough"), timeout_s=10
            )
    assert pb.RunState.Name(seen.state) == "RUN_STATE_CANCELLED"
    assert time.monotonic() - began < 20


def test_without_a_device_it_does_not_start():
    with pytest.raises(SettingsError, match="DEVICE is missing"):
        load(TrainingSettings, {})
