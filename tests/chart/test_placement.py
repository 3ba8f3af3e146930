"""Pods of a GPU pool are scheduled on its nodes only, and no other Pod on a GPU node."""

from typing import Any

import pytest

from tests.chart.rendering import Helm, Manifest, Pod, env, pods

Node = tuple[dict[str, str], list[dict[str, str]]]  # labels, taints

PLAIN: Node = ({"kubernetes.io/hostname": "a"}, [])
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
GPU: Node = ({"kubernetes.io/hostname": "b", "pool": "gpu"}, [TAINT])
GPU_WITHOUT_TAINT: Node = ({"pool": "gpu"}, [])
MIXED = {
    "nodePools": {
        "default": {"selector": {"cloud": "here"}},
        "gpu": {"selector": {"cloud": "here", "pool": "gpu"}, "gpus": 2, "runtimeClass": "nvidia"},
        "big": {"selector": {"pool": "big", "size": "8"}, "gpus": 8},
    },
    "services": {"inference": {"nodePool": "gpu"}},
    "training": {"nodePool": "big"},
}


def fits(pod: Pod, node: Node) -> bool:
    """Whether the scheduler's filters for labels and taints admit the Pod to the node."""
    labels, taints = node
    selected = all(labels.get(k) == v for k, v in pod.spec.get("nodeSelector", {}).items())
    affinity = pod.spec.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms")
    allowed = terms is None or any(all(_holds(e, labels) for e in term["matchExpressions"]) for term in terms)
    return selected and allowed and all(any(_tolerates(t, taint) for t in pod.spec["tolerations"]) for taint in taints)


def _holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    assert expression["operator"] == "NotIn"
    return labels.get(expression["key"]) not in expression["values"]


def _tolerates(toleration: dict[str, Any], taint: dict[str, str]) -> bool:
    return (
        toleration.get("key") in (None, taint["key"])
        and toleration.get("effect") in (None, taint["effect"])
        and (toleration.get("operator") == "Exists" or toleration.get("value") == taint["value"])
    )


def on_gpus(manifests: list[Manifest]) -> set[str]:
    return {pod.component for pod in pods(manifests) if pod.gpus}


@pytest.fixture(scope="module")
def with_gpus(helm: Helm) -> list[Manifest]:
    return helm.render("try", {"services": {"inference": {"nodePool": "gpu"}}, "training": {"nodePool": "gpu"}})


def test_gpu_pods_fit_gpu_nodes_only(with_gpus: list[Manifest]) -> None:
    assert on_gpus(with_gpus) == {"inference", "training-run"}
    for pod in pods(with_gpus):
        on_gpu = bool(pod.gpus)
        assert fits(pod, GPU) == on_gpu, pod.component
        assert fits(pod, PLAIN) == (not on_gpu), pod.component
        assert fits(pod, GPU_WITHOUT_TAINT) == on_gpu, pod.component


def test_the_number_of_gpus_is_text(with_gpus: list[Manifest]) -> None:
    (run,) = [pod for pod in pods(with_gpus) if pod.component == "training-run"]
    assert run.spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_node_belongs_to_a_pool_when_it_has_all_its_labels(helm: Helm) -> None:
    for pod in pods(helm.render("try", MIXED)):
        fitting = {
            "cpu": fits(pod, ({"cloud": "here"}, [])),
            "gpu": fits(pod, ({"cloud": "here", "pool": "gpu"}, [])),
            "big": fits(pod, ({"cloud": "here", "pool": "big", "size": "8"}, [])),
            "big but small": fits(pod, ({"cloud": "here", "pool": "big", "size": "2"}, [])),
        }
        wanted = {"inference": {"gpu"}, "training-run": {"big"}}.get(pod.component, {"cpu", "big but small"})
        assert {name for name, fit in fitting.items() if fit} == wanted, pod.component


def test_a_pool_sets_gpus_and_runtime_class(helm: Helm) -> None:
    found = {pod.component: pod for pod in pods(helm.render("try", MIXED))}
    assert (found["inference"].gpus, found["inference"].spec["runtimeClassName"]) == (2, "nvidia")
    assert found["training-run"].gpus == 8
    assert "runtimeClassName" not in found["training-run"].spec


def test_trying_out_needs_no_gpu(trying: list[Manifest]) -> None:
    assert on_gpus(trying) == set()
    assert all(fits(pod, PLAIN) for pod in pods(trying))


def test_only_the_try_out_computes_on_cpus(helm: Helm) -> None:
    devices = {}
    for profile in ("try", "production"):
        environments = [env(container) for pod in pods(helm.render(profile)) for container in pod.containers]
        devices[profile] = {variables["DEVICE"] for variables in environments if "DEVICE" in variables}
    assert devices == {"try": {"cpu"}, "production": {"cuda"}}


def test_production_uses_the_pools_that_terraform_makes(production: list[Manifest]) -> None:
    pools = {pod.component: pod.spec.get("nodeSelector", {}).get("luthier.io/pool") for pod in pods(production)}
    own = {"rendering": "render", "inference": "gpu-inference"}
    own["training-run"] = "gpu-training"
    assert pools == {component: own.get(component, "cpu") for component in pools}
