"""GPU Pods run on the GPU pool only, others never there; a run beyond the quota waits in Kueue."""

import json
import time
from typing import Any

import pytest

from tests.cluster.kube import node_of, run, wait_until
from tests.cluster.release import Release

ON_GPU = {"training-run", "inference"}


def test_every_pod_is_where_its_pool_is(installed: Release, gpu_nodes: list[dict[str, Any]]) -> None:
    if not gpu_nodes:
        pytest.skip("the cluster has no GPU pool")
    names = {node["metadata"]["name"] for node in gpu_nodes}
    for pod in installed.kube.items("pods"):
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component")
        if component and node_of(pod):
            assert (node_of(pod) in names) == (component in ON_GPU), pod["metadata"]["name"]


def test_a_run_beyond_the_quota_waits_in_kueue(
    installed: Release, crds: set[str], gpu_nodes: list[dict[str, Any]], figures: dict[str, Any]
) -> None:
    if "clusterqueues.kueue.x-k8s.io" not in crds or not gpu_nodes:
        pytest.skip("the cluster has no Kueue or no GPU pool")
    earlier = installed.selector("training-run")
    wait_until("earlier runs have ended", lambda: not installed.kube.pods(earlier, phase="Running"), 120)
    free = free_gpus(gpu_nodes)
    assert free, "inference holds every GPU of the pool"
    queue(installed, gpus=free)
    installed.helm("upgrade", values={"training": {"queue": "training"}})
    installed.kube("rollout", "status", f"deploy/{installed.name}-training", "--timeout=200s")
    processes = [installed.begin("train", *request(number)) for number in range(free + 1)]
    one_waits = [False] + [True] * free
    try:
        wait_until("all but one are admitted", lambda: sorted(admitted(installed)) == one_waits, 200)
        wait_until("those that are admitted run", lambda: len(runs(installed, "RUNNING")) == free, 300)
        assert sorted(admitted(installed)) == one_waits
        waiting = runs(installed, "QUEUED")
        assert len(waiting) == 1
        installed.luthier("cancel", runs(installed, "RUNNING")[0])
        begun = time.monotonic()
        wait_until("the one that waited runs", lambda: waiting[0] in runs(installed, "RUNNING"), 300)
        figures["seconds from the end of a training run to the one that waited in Kueue running"] = round(
            time.monotonic() - begun
        )
        assert len(runs(installed, "RUNNING")) == free
    finally:
        for one in runs(installed, "RUNNING") + runs(installed, "QUEUED"):
            installed.luthier("cancel", one)
        for process in processes:
            process.kill()
        installed.helm("upgrade")


def free_gpus(nodes: list[dict[str, Any]]) -> int:
    """GPUs of these nodes that no Pod holds."""
    names = {node["metadata"]["name"] for node in nodes}
    pods = json.loads(run("kubectl", "get", "pods", "--all-namespaces", "-o", "json"))["items"]
    live = [pod for pod in pods if node_of(pod) in names and pod["status"]["phase"] in ("Pending", "Running")]
    limits = [c.get("resources", {}).get("limits", {}) for pod in live for c in pod["spec"]["containers"]]
    there = sum(int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in nodes)
    return there - sum(int(limit.get("nvidia.com/gpu", 0)) for limit in limits)


def request(number: int) -> tuple[str, ...]:
    """A run that goes on until it is cancelled."""
    steps = ("--steps", "1000000", "--batch-size", "4", "--validate-every", "100000", "--checkpoint-every", "10000")
    return ("--base", "base", "--dataset", "songbook", "--name", f"queued-{number}", *steps)


def workloads(release: Release) -> list[dict[str, Any]]:
    return release.kube.items("workloads.kueue.x-k8s.io")


def admitted(release: Release) -> list[bool]:
    """For each run that has not ended: whether Kueue has admitted it."""
    return [
        any(c["type"] == "Admitted" and c["status"] == "True" for c in item.get("status", {}).get("conditions", []))
        for item in workloads(release)
        if not any(c["type"] == "Finished" for c in item.get("status", {}).get("conditions", []))
    ]


def runs(release: Release, state: str) -> list[str]:
    """Ids of this test's runs in a state, as the training service says."""
    trainings = release.luthier("status")["trainings"]
    mine = [run for run in trainings if run["request"]["model_name"].startswith("queued-")]
    return [run["run_id"] for run in mine if run["state"] == f"RUN_STATE_{state}"]


def queue(release: Release, gpus: int) -> None:
    """A ClusterQueue with so many GPUs, and the namespace's LocalQueue `training`."""
    covered = ["cpu", "memory", "nvidia.com/gpu", "ephemeral-storage"]
    quotas = {"cpu": "64", "memory": "256Gi", "nvidia.com/gpu": str(gpus), "ephemeral-storage": "1Ti"}
    flavor = {"name": "gpu", "resources": [{"name": name, "nominalQuota": quotas[name]} for name in covered]}
    api = "kueue.x-k8s.io/v1beta1"
    release.kube.apply(
        {"apiVersion": api, "kind": "ResourceFlavor", "metadata": {"name": "gpu"}},
        {
            "apiVersion": api,
            "kind": "ClusterQueue",
            "metadata": {"name": "training"},
            "spec": {"namespaceSelector": {}, "resourceGroups": [{"coveredResources": covered, "flavors": [flavor]}]},
        },
        {
            "apiVersion": api,
            "kind": "LocalQueue",
            "metadata": {"name": "training", "namespace": release.kube.namespace},
            "spec": {"clusterQueue": "training"},
        },
    )
