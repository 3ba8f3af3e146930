"""One release on the cluster for all tests: installed first, removed last; tests run in the order of files."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import Kube, run
from tests.cluster.monitoring import Prometheus
from tests.cluster.release import Release, gone, namespace, scripts
from tests.cluster.settings import SERVICES, THIRD_PARTY, Settings, from_environment

FIGURES: dict[str, Any] = {}
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if FIGURES:
        terminalreporter.write_sep("-", "figures of this cluster")
        for name, value in FIGURES.items():
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def figures() -> dict[str, Any]:
    """What was measured; printed at the end."""
    return FIGURES


@pytest.fixture(scope="session")
def settings() -> Settings:
    return from_environment()


@pytest.fixture(scope="session")
def images(settings: Settings) -> None:
    """Loads the images into the cluster, where IMAGE_LOAD is set."""
    if settings.image_load:
        names = (*SERVICES, "pipeline", *THIRD_PARTY)
        run(*settings.image_load, *map(settings.image, names), timeout_s=3600)


@pytest.fixture(scope="session")
def crds(settings: Settings) -> set[str]:
    """Names of the cluster's CustomResourceDefinitions."""
    found = run("kubectl", "get", "crd", "-o", "name")
    return {line.removeprefix("customresourcedefinition.apiextensions.k8s.io/") for line in found.split()}


@pytest.fixture(scope="session")
def gpu_nodes(settings: Settings) -> list[dict[str, Any]]:
    """Nodes with the resource nvidia.com/gpu."""
    nodes = json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]
    return [node for node in nodes if int(node["status"]["allocatable"].get("nvidia.com/gpu", 0))]


@pytest.fixture(scope="session")
def prometheus(settings: Settings, images: None) -> Iterator[Prometheus]:
    """A Prometheus of its own in a namespace of its own, scraping the release."""
    found = Prometheus(
        Kube("luthier-monitoring"), settings.image("prometheus"), target_namespace="luthier-test", release="luthier"
    )
    found.install()
    yield found
    if not os.environ.get("KEEP"):
        gone("luthier-monitoring")


@pytest.fixture(scope="session")
def release(
    settings: Settings, images: None, gpu_nodes: list[dict[str, Any]], prometheus: Prometheus
) -> Iterator[Release]:
    """The release, not yet installed: its namespaces and secrets are there."""
    for name in ("luthier-test", "luthier-callers", "luthier-others"):
        if not os.environ.get("REUSE"):
            gone(name)
        namespace(name, **{"luthier-test-role": name.removeprefix("luthier-")})
        Kube(name).apply(scripts())
    made = Release("luthier", Kube("luthier-test"), settings)
    made.values = overlay(settings, gpu_nodes, prometheus)
    yield made
    if not os.environ.get("KEEP"):
        for name in ("luthier-test", "luthier-callers", "luthier-others"):
            gone(name)


def cpu_nodes() -> list[str]:
    """Names of the nodes without a GPU."""
    nodes = json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]
    return [n["metadata"]["name"] for n in nodes if not int(n["status"]["allocatable"].get("nvidia.com/gpu", 0))]


def overlay(settings: Settings, gpu_nodes: list[dict[str, Any]], prometheus: Prometheus) -> dict[str, Any]:
    """Values for this cluster: its image registry, its GPU pool, who may call, Prometheus."""
    callers = [{"namespaceSelector": {"matchLabels": {"luthier-test-role": "callers"}}}]
    scrapers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": prometheus.kube.namespace}}}]
    state = {
        "kubernetes.io/hostname": cpu_nodes()[0]
    }  # MinIO and PostgreSQL share a node: other nodes may lose their power
    values: dict[str, Any] = {
        "nodePools": {"state": {"selector": state}},
        "tryout": {"nodePool": "state"},
        "image": {"registry": settings.registry, "tag": settings.tag},
        "services": {"inference": {"allowedCallers": callers}},
        "prometheus": {"address": prometheus.address, "scrapers": scrapers},
    }
    if gpu_nodes:
        labels, taints = gpu_nodes[0]["metadata"]["labels"], gpu_nodes[0]["spec"].get("taints", [])
        selector = {key: labels[key] for key in ("pool", "nvidia.com/gpu.present") if key in labels}
        tolerations = [{"key": t["key"], "operator": "Exists", "effect": t["effect"]} for t in taints]
        values["nodePools"]["gpu"] = {"selector": selector, "tolerations": tolerations, "gpus": 1}
        values["services"]["inference"]["nodePool"] = "gpu"
        values["training"] = {"nodePool": "gpu"}
    return values


@pytest.fixture(scope="session")
def secret_texts(release: Release) -> list[str]:
    """The texts of the Secrets that the platform engineer created; they must not appear anywhere else."""
    return release.secrets()


@pytest.fixture(scope="session")
def installed(release: Release, secret_texts: list[str], figures: dict[str, Any]) -> Release:
    """The release with every Pod ready."""
    begun = time.monotonic()
    release.helm("upgrade", "--install")
    for service in (*SERVICES, "monitor"):
        release.kube("rollout", "status", f"deploy/{release.name}-{service}", "--timeout=420s", timeout_s=430)
    figures["seconds from helm install to every service ready"] = round(time.monotonic() - begun)
    return release


@pytest.fixture
def power(installed: Release) -> Any:
    """Cuts the power of nodes and restores it at the end of the test."""
    settings = installed.settings
    if not (settings.node_fail and settings.node_heal):
        pytest.skip("NODE_FAIL and NODE_HEAL are not set: no node's power can be cut")
    cut: list[str] = []

    def off(node: str) -> None:
        cut.append(node)
        run(*settings.node_fail, node)

    def on(node: str) -> None:
        cut.remove(node)
        run(*settings.node_heal, node)
        run("kubectl", "wait", "--for=condition=Ready", f"node/{node}", "--timeout=120s")

    off.on = on  # type: ignore[attr-defined]
    yield off
    for node in list(cut):
        on(node)
