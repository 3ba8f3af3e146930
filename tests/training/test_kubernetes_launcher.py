"""The Job that a run becomes, and what a service says that cannot make Jobs."""

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TrainingProgress, TrainingResult
from luthier_kit.registry import Run
from luthier_kit.rpc import SettingsError, Unavailable, load
from luthier_training.launchers.kubernetes_jobs import JobTemplate, KubernetesLauncher
from luthier_training.settings import TrainingSettings
from tests.kubernetes_api import TEMPLATE, Api

from .conftest import WriteTemplate

REQUEST = CreateTrainingRunRequest(request_id="r", model_name="m")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
RUN = Run("training-" + "0123456789abcdef" * 2, "training", REQUEST, TrainingProgress(), TrainingResult(), NOW, NOW)


def changed(**container: object) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(TEMPLATE)
    document["spec"]["template"]["spec"]["containers"][0].update(container)
    return document


def with_gpus(count: object) -> dict[str, Any]:
    return changed(resources={"limits": {"nvidia.com/gpu": count}})


def test_a_job_is_the_template_with_name_labels_and_arguments(api: Api) -> None:
    KubernetesLauncher(load(TrainingSettings)).launch(RUN)
    job = api.jobs["lute-train-0123456789abcdef"]
    assert job["metadata"]["labels"] == {"app.kubernetes.io/instance": "lute", "luthier/run": RUN.id}
    assert job["metadata"]["annotations"] == {"luthier/request-id": "r", "luthier/model": "m"}
    assert job["spec"]["template"]["metadata"]["labels"] == {"luthier/run": RUN.id}
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["python"]
    assert container["args"] == ["-m", "luthier_training.runner", RUN.id]
    assert job["spec"]["backoffLimit"] == 6


@pytest.mark.parametrize(("asked", "ranks"), [(1, None), ("1", None), ("4", "4")])
def test_several_gpus_are_several_processes(template: WriteTemplate, asked: Any, ranks: Any) -> None:
    job = JobTemplate.read(template(with_gpus(asked))).job(RUN.id, REQUEST, processes=1)
    arguments = job.document["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[-3:] == ["-m", "luthier_training.runner", RUN.id]
    assert (arguments[arguments.index("--nproc-per-node") + 1] if ranks else None) == ranks


def test_a_job_goes_with_its_owner(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_JOB_OWNER", "lute-jobs")
    launcher = KubernetesLauncher(load(TrainingSettings))  # the release may be on its way
    with pytest.raises(Unavailable, match="no ConfigMap lute-jobs"):
        launcher.launch(RUN)
    api.config_map("lute-jobs", {})
    launcher.launch(RUN)
    [owner] = api.jobs["lute-train-0123456789abcdef"]["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "ConfigMap", "name": "lute-jobs", "uid": "uid-of-lute-jobs"}


def test_launching_twice_is_launching_once(api: Api) -> None:
    launcher = KubernetesLauncher(load(TrainingSettings))
    launcher.launch(RUN)
    launcher.launch(RUN)
    assert len(api.jobs) == 1


def test_starting_makes_nothing(api: Api) -> None:
    KubernetesLauncher(load(TrainingSettings))
    assert api.jobs == {}
    assert set(api.asked) == {("list", "jobs"), ("create", "jobs"), ("delete", "jobs")}


def test_jobs_of_others_are_not_its_own(api: Api) -> None:
    launcher = KubernetesLauncher(load(TrainingSettings))
    launcher.launch(RUN)
    job = copy.deepcopy(api.jobs["lute-train-0123456789abcdef"])
    job["metadata"].update(name="other-train-0123456789abcdef", labels={"luthier/run": "training-" + "1" * 32})
    api.jobs[job["metadata"]["name"]] = job
    assert list(launcher.list_work()) == [RUN.id]


def test_stopping_what_is_gone_is_fine(api: Api) -> None:
    KubernetesLauncher(load(TrainingSettings)).stop(RUN.id)


@pytest.mark.parametrize("verb", ["list", "create", "delete"])
def test_a_missing_permission_is_said_at_the_start(api: Api, verb: str) -> None:
    api.refusals[verb, "jobs"] = 403, f'jobs.batch is forbidden: cannot {verb} resource "jobs"'
    with pytest.raises(SettingsError, match=f"cannot {verb} resource"):
        KubernetesLauncher(load(TrainingSettings))


def test_a_job_that_the_server_refuses_is_said_at_the_start(api: Api, template: WriteTemplate) -> None:
    template(changed(image=""))
    with pytest.raises(SettingsError, match=r"containers\[0\].image: Required"):
        KubernetesLauncher(load(TrainingSettings))


def test_a_cluster_that_is_away_at_the_start_is_asked_later(api: Api) -> None:
    api.refusals["list", "jobs"] = api.refusals["create", "jobs"] = api.refusals["delete", "jobs"] = 503, "starting"
    launcher = KubernetesLauncher(load(TrainingSettings))
    api.refusals.clear()
    assert launcher.list_work() == {}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("a: [", "cannot be read"),
        ("- 1", "must be one batch/v1 Job"),
        ({**TEMPLATE, "kind": "Pod"}, "must be one batch/v1 Job"),
        ({**TEMPLATE, "metadata": {}}, "metadata.name is missing"),
        ({**TEMPLATE, "metadata": {"name": "x" * 47}}, "at most 46"),
        ({**TEMPLATE, "metadata": {"name": "Lute"}}, "DNS label"),
        ({**TEMPLATE, "spec": {"template": {"spec": {"containers": []}}}}, "no container"),
        ({**TEMPLATE, "spec": {"template": 3}}, "spec.template.spec.containers is missing"),
        (with_gpus("many"), "nvidia.com/gpu must be a whole number"),
    ],
)
def test_a_bad_template_is_refused_by_what_is_wrong(
    template: WriteTemplate, document: dict[str, Any], text: str
) -> None:
    with pytest.raises(SettingsError, match=text):
        JobTemplate.read(template(document))


def test_without_a_template_it_does_not_start() -> None:
    with pytest.raises(SettingsError, match="LUTHIER_JOB_TEMPLATE is missing"):
        load(TrainingSettings, {"DEVICE": "cpu", "LUTHIER_TRAINING_LAUNCHER": "kubernetes"})


def test_without_a_cluster_it_does_not_start(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="no way to a cluster: set KUBECONFIG"):
        KubernetesLauncher(load(TrainingSettings))
