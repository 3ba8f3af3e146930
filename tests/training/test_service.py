"""The service as others meet it: real process, real gRPC, runners that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import LICENSED_USE_COMMERCIAL, ArtifactRef, ModelAdapter
from luthier.training.v1 import training_pb2 as pb
from luthier.training.v1.training_pb2_grpc import TrainingServiceStub
from luthier_kit.registry import ModelVersion, RunLog, register, resolve
from luthier_kit.rpc import Channel, FailedPrecondition, InvalidRequest, NotFound, Service, SettingsError, load
from luthier_kit.store import Store
from luthier_model.configuration import Configuration
from luthier_training.launchers.local import LocalLauncher
from luthier_training.runs import KIND
from luthier_training.scheduler import Scheduler
from luthier_training.service import TrainingServicer
from luthier_training.settings import RunnerSettings, TrainingSettings
from tests.support.services import running
from tests.support.stores import free_port

from .conftest import WriteTemplate, manifest, promote

PORT, METRICS_PORT = free_port(), free_port()
TUNE = pb.FineTune(base_model="base", steps=30, batch_size=2, learning_rate=1e-3, checkpoint_every=2, validate_every=15)
LONG = pb.FineTune(  # seconds of steps after the first checkpoint, however quick the machine: time to kill it in
    base_model="base", steps=160, batch_size=2, learning_rate=1e-3, checkpoint_every=8, validate_every=80
)
RUNNER = "luthier_training.runner"


@pytest.fixture
def process(store: Store, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """The service in a process of its own; yields a function that starts it again."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        "DEVICE": "cpu",
        "LUTHIER_TRAINING_THREADS": "1",
        "LUTHIER_ADDRESS": f"127.0.0.1:{PORT}",
        "LUTHIER_METRICS_ADDRESS": f"127.0.0.1:{METRICS_PORT}",
        "LUTHIER_STORE_FOLDER": str(tmp_path / "store"),
        "LUTHIER_SCRATCH": str(tmp_path / "scratch"),
    }

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-m", "luthier_training"], env=environment))
        return started[-1]

    yield start
    for one in started:
        one.terminate()
        one.wait(40)


@pytest.fixture
def client() -> Iterator[TrainingServiceStub]:
    channel = Channel(f"127.0.0.1:{PORT}", retry_budget_s=60)
    yield TrainingServiceStub(channel)
    channel.close()


@pytest.fixture
def client_of_the_service(store: Store) -> Iterator[TrainingServiceStub]:
    """Of a service in this process, whose scheduler does not look after runs."""
    servicer = TrainingServicer(store, Scheduler(store, LocalLauncher(TrainingSettings(device="cpu"))))
    contract = pb.DESCRIPTOR.services_by_name["TrainingService"]
    with running(Service(contract, servicer)) as address:
        channel = Channel(address)
        yield TrainingServiceStub(channel)
        channel.close()


def create(client: TrainingServiceStub, dataset_ref: ArtifactRef, request_id: str = "r", **kind: Any) -> pb.TrainingRun:
    kind = kind or {"fine_tune": TUNE}
    request = pb.CreateTrainingRunRequest(request_id=request_id, dataset=dataset_ref, model_name="tuned", **kind)
    return client.CreateTrainingRun(request, timeout=20).run


def watch(client: TrainingServiceStub, run_id: str) -> Iterator[pb.TrainingRun]:
    request = pb.WatchTrainingRunRequest(run_id=run_id)
    return (response.run for response in client.WatchTrainingRun(request, timeout=300))


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


def test_a_run_survives_the_death_of_its_runner_and_of_the_service(
    process: Callable[[], subprocess.Popen[bytes]],
    client: TrainingServiceStub,
    store: Store,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
) -> None:
    service = process()
    kind: dict[str, Any] = {"fine_tune": LONG}
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
    assert [point.step for point in last.validation] == [0, 80, 160]
    assert f"sha256:{resolve(store, last.model).digest}" == last.model_digest


def test_refusals_name_what_is_wrong(
    process: Callable[[], subprocess.Popen[bytes]],
    client: TrainingServiceStub,
    store: Store,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
) -> None:
    process()
    with pytest.raises(InvalidRequest) as refused:
        create(client, dataset_ref, fine_tune=pb.FineTune(base_model="base", steps=0))
    assert "fine_tune.steps" in dict(refused.value.violations)
    with pytest.raises(NotFound, match="no model 'nobody'"):
        create(client, dataset_ref, fine_tune=pb.FineTune(base_model="nobody"))
    with pytest.raises(NotFound, match="no model 'nobody'"):
        create(client, dataset_ref, autoencoder=pb.TrainAutoencoder(base_model="nobody"))
    with pytest.raises(InvalidRequest) as refused:
        create(client, dataset_ref, autoencoder=pb.TrainAutoencoder(base_model="base", window_samples=4097))
    assert "multiple of the 2048 samples of a latent" in dict(refused.value.violations)["autoencoder.window_samples"]
    with pytest.raises(NotFound):
        create(client, ArtifactRef(key=f"manifests/{'0' * 64}.json", sha256="0" * 64))
    with pytest.raises(FailedPrecondition) as differs:
        create(client, ArtifactRef(key=dataset_ref.key, sha256="0" * 64))
    assert differs.value.reason == "ARTIFACT_DIGEST_MISMATCH"
    with pytest.raises(NotFound):
        client.GetTrainingRun(pb.GetTrainingRunRequest(run_id="training-" + "0" * 32), timeout=10)
    listed = client.ListTrainingRuns(pb.ListTrainingRunsRequest(), timeout=10)
    assert not listed.runs


@pytest.mark.slow
def test_a_wrong_checkpoint_and_a_cancel_end_their_runs(
    process: Callable[[], subprocess.Popen[bytes]],
    client: TrainingServiceStub,
    store: Store,
    known: Configuration,
    base_files: tuple[Path, Path],
    base: ModelVersion,
    dataset_ref: ArtifactRef,
) -> None:
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
            client.CancelTrainingRun(pb.CancelTrainingRunRequest(run_id=run.run_id, reason="enough"), timeout=10)
    assert pb.RunState.Name(seen.state) == "RUN_STATE_CANCELLED"
    assert began is not None
    assert time.monotonic() - began < 20


def test_a_request_id_finds_its_run_whatever_has_changed_since(
    store: Store, client_of_the_service: TrainingServiceStub, base: ModelVersion, dataset_ref: ArtifactRef
) -> None:
    run = create(client_of_the_service, dataset_ref)
    promote(store, base, "tuned")
    store.objects.delete(dataset_ref.key)

    assert create(client_of_the_service, dataset_ref) == run
    with pytest.raises(FailedPrecondition) as other:
        create(client_of_the_service, dataset_ref, tiny_base=pb.TinyBase())
    assert other.value.reason == "REQUEST_ID_REUSED"
    with pytest.raises(FailedPrecondition) as promoted:
        create(client_of_the_service, dataset_ref, "another")
    assert promoted.value.reason == "NAME_IS_PROMOTED"


def test_a_plan_is_refused_by_name_before_a_run_is_made(
    store: Store, client_of_the_service: TrainingServiceStub, base: ModelVersion, dataset_ref: ArtifactRef
) -> None:
    data = [pb.StageData(subsets=[pb.SubsetShare(subset="monophonic")])]
    tune = pb.FineTune(base_model="base", stages=[pb.TrainingStage(name="main", steps=3, data=data)])
    with pytest.raises(InvalidRequest, match="three has no clip of the subset 'monophonic'") as refused:
        create(client_of_the_service, dataset_ref, fine_tune=tune)
    assert [field for field, _ in refused.value.violations] == ["dataset"]

    tune = pb.FineTune(base_model="base", continue_from=pb.ContinueFrom(run_id="training-" + "0" * 32))
    with pytest.raises(NotFound) as unknown:
        create(client_of_the_service, dataset_ref, fine_tune=tune)
    assert unknown.value.reason == "RUN_NOT_FOUND"
    assert not list(store.names("runs/"))


def test_what_a_clips_licence_forbids_is_not_trained_on(
    store: Store, client_of_the_service: TrainingServiceStub, base: ModelVersion, tmp_path: Path
) -> None:
    document = json.loads(manifest(store, tmp_path))
    for row in document["rows"]:
        row["licences"] = ["CC-BY-4.0"]
    document["rows"][0]["licences"] = ["CC-BY-NC-4.0"]
    bound = store.blobs.put_bytes("manifests", json.dumps(document).encode(), "json")

    with pytest.raises(FailedPrecondition, match=f"'CC-BY-NC-4.0' forbids it.*{document['rows'][0]['clip_id']}") as no:
        create(client_of_the_service, bound, fine_tune=TUNE, use=LICENSED_USE_COMMERCIAL)

    assert no.value.reason == "LICENCE_FORBIDS"
    assert not list(store.names("runs/"))


def test_metadata_of_a_data_set_of_which_nothing_is_known_are_refused(
    store: Store,
    client_of_the_service: TrainingServiceStub,
    base: ModelVersion,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
) -> None:
    document = json.loads(manifest(store, tmp_path))
    for row in document["rows"][:2]:
        del row["facts"], row["tags"]
    document["rows"][2]["facts"] = {"key": {"tonic": "A", "source": "FACT_SOURCE_NOTES"}}  # it is not trained on
    unknown = store.blobs.put_bytes("manifests", json.dumps(document).encode(), "json")
    tune = pb.FineTune(base_model="base", metadata_share=0.5)
    with pytest.raises(InvalidRequest, match="metadata") as refused:
        create(client_of_the_service, unknown, fine_tune=tune)
    assert refused.value.reason == "DATASET_INVALID"
    create(client_of_the_service, unknown, fine_tune=pb.FineTune(base_model="base"))
    assert create(client_of_the_service, dataset_ref, "other", fine_tune=tune).request.fine_tune.metadata_share == 0.5


def test_a_ninth_adapter_is_refused_with_what_to_do(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, client_of_the_service: TrainingServiceStub
) -> None:
    stored = [store.blobs.put_bytes("checkpoints", b"%d" % n, "safetensors") for n in range(8)]
    eight = replace(base, name="eight", adapters=[ModelAdapter(artifact=ref) for ref in stored], created_at=None, n=0)
    register(store, eight)
    asked = pb.FineTune(base_model="eight", adapter=pb.Adapter())
    with pytest.raises(InvalidRequest, match=r"fine_tune.base_model: eight@1 has 8 adapters.*without one"):
        create(client_of_the_service, dataset_ref, fine_tune=asked)
    asked.ClearField("adapter")
    assert create(client_of_the_service, dataset_ref, fine_tune=asked).request.fine_tune.base_model == "eight"


def test_a_window_beyond_what_the_base_can_be_told_is_refused_before_a_run_is_made(
    client_of_the_service: TrainingServiceStub, base: ModelVersion, known: Configuration, dataset_ref: ArtifactRef
) -> None:
    asked = pb.FineTune(base_model="base", window_seconds=known.seconds_max + 1)
    with pytest.raises(InvalidRequest) as refused:
        create(client_of_the_service, dataset_ref, fine_tune=asked)
    assert [field for field, _ in refused.value.violations] == ["fine_tune.window_seconds"]


def test_pages_hold_every_run_once_newest_first(store: Store, client_of_the_service: TrainingServiceStub) -> None:
    runs = [RunLog.create(store, KIND, f"r{number}", pb.CreateTrainingRunRequest()).id for number in range(5)]
    seen, token = [], ""
    while True:
        page = client_of_the_service.ListTrainingRuns(pb.ListTrainingRunsRequest(page_size=2, page_token=token))
        seen += [run.run_id for run in page.runs]
        RunLog.create(store, KIND, f"later{len(seen)}", pb.CreateTrainingRunRequest())  # belongs to the first page
        if not (token := page.next_page_token):
            break
    assert seen == runs[::-1]


@pytest.mark.parametrize("token", ["unknown", "training-" + "0" * 32, "e30"])
def test_an_unknown_page_token_is_refused(store: Store, client_of_the_service: TrainingServiceStub, token: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client_of_the_service.ListTrainingRuns(pb.ListTrainingRunsRequest(page_token=token))
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
    assert "page_token" in dict(refused.value.violations)


def test_the_page_size_is_bounded(client_of_the_service: TrainingServiceStub) -> None:
    for size in (0, 501):
        with pytest.raises(InvalidRequest, match="page_size"):
            client_of_the_service.ListTrainingRuns(pb.ListTrainingRunsRequest(page_size=size))


def test_it_does_not_load_torch() -> None:
    """Which takes seconds of its start and hundreds of MB for as long as it runs."""
    code = "import sys, luthier_training.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_a_device_it_does_not_start() -> None:
    with pytest.raises(SettingsError, match="DEVICE is missing"):
        load(TrainingSettings, {})


def test_everything_that_is_wrong_with_the_settings_is_said_at_once(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "LUTHIER_STORE": "s3",
        "DEVICE": "cpu",
        "LUTHIER_TRAINING_LAUNCHER": "kubernetes",
        "LUTHIER_TLS_CA": str(tmp_path / "nope.pem"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "luthier_training"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    for part in ("LUTHIER_JOB_TEMPLATE is missing", "LUTHIER_S3_ACCESS_KEY is missing", "nope.pem"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_cuda_without_a_device_is_refused_where_it_computes(
    monkeypatch: pytest.MonkeyPatch, template: WriteTemplate
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match="DEVICE=cuda, but torch finds no CUDA device"):
        load(TrainingSettings, {"DEVICE": "cuda"})
    with pytest.raises(SettingsError, match="no CUDA device"):
        load(RunnerSettings, {"DEVICE": "cuda", "LUTHIER_TRAINING_LAUNCHER": "kubernetes"})
    kubernetes = {"LUTHIER_TRAINING_LAUNCHER": "kubernetes", "LUTHIER_JOB_TEMPLATE": str(template())}
    assert load(TrainingSettings, {"DEVICE": "cuda", **kubernetes}).device == "cuda"
