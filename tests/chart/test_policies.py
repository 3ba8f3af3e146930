"""NetworkPolicies permit the connections of the architecture and no other.

The tables are written from the architecture (which service calls which, and what each needs), not from the chart.
"""

from typing import Any

import pytest

from tests.chart.network import Peer, reaches
from tests.chart.rendering import Helm, Manifest, named, pods
from tests.chart.variants import MODEL

SERVICES = {"rendering", "analysis", "enrichment", "prompting", "curation", "training", "inference", "evaluation"}
GRPC, METRICS, HEALTH, WEB, S3, SQL, HTTP = 7100, 7200, 7110, 7300, 9000, 5432, 8000

CALLS = {
    "ingest": {"rendering", "enrichment"},  # InspectMidi; the sheet of tags is read before any song is rendered
    "pipeline": SERVICES,  # calls every service
    "monitor": SERVICES,  # operators run `luthier` in it
    "curation": {"analysis", "evaluation"},  # cuts clips anew for the page; embeds sounds and texts
    "inference": {"analysis"},  # hears whether audio is as music asked for
    "evaluation": {"inference", "analysis"},  # generates and measures as in production
    "test": {"inference"},
}
STORE = SERVICES | {"ingest", "pipeline", "monitor", "training-run", "prepare-store", "test", "expiry"}
DATABASE = {"curation", "migrate"}

RELEASE = {"app.kubernetes.io/name": "luthier", "app.kubernetes.io/instance": "lt"}
OTHER_NAMESPACE = Peer("a Pod of another namespace", {"app": "x"}, namespace="elsewhere")
OTHER_APP = Peer("a Pod of another application", {"app": "x"})
NEW_COMPONENT = Peer("a component without rules", {**RELEASE, "app.kubernetes.io/component": "new"}, {"grpc": GRPC})
OTHER_RELEASE = Peer(
    "a Pod of another release",
    {**RELEASE, "app.kubernetes.io/instance": "b", "app.kubernetes.io/component": "test"},
)
INTERNET = Peer("the internet", address="93.184.215.14")
METADATA = Peer("the cloud's metadata", address="169.254.169.254")


def peers(manifests: list[Manifest]) -> dict[str, Peer]:
    return {pod.component: Peer(pod.component, pod.labels, pod.ports) for pod in pods(manifests)}


def connections(manifests: list[Manifest], *others: Peer) -> set[tuple[str, str, int]]:
    """Every connection that is permitted: source, target, port."""
    policies, known = list(named(manifests, "NetworkPolicy").values()), list(peers(manifests).values())
    ports = (53, 80, 443, GRPC, HEALTH, METRICS, WEB, S3, SQL, HTTP, 6443)
    return {
        (source.name, target.name, port)
        for source in [*known, *others]
        for target in [*known, *others]
        for port in ports
        if source in known or target in known or NEW_COMPONENT in (source, target)
        if reaches(policies, source, target, port)
    }


@pytest.fixture(scope="module")
def with_a_model(helm: Helm) -> list[Manifest]:
    """values-try.yaml with the language model."""
    return helm.render("try", {"llm": {"vllm": {"enabled": True, "model": MODEL}}})


def test_only_the_connections_of_the_architecture_are_permitted(with_a_model: list[Manifest]) -> None:
    expected = {(source, target, GRPC) for source, targets in CALLS.items() for target in targets}
    expected |= {(source, "minio", S3) for source in STORE}
    expected |= {(source, "postgresql", SQL) for source in DATABASE}
    expected |= {("prompting", "vllm", HTTP)}
    assert connections(with_a_model) == expected


def test_connections_out_of_and_into_the_release(with_a_model: list[Manifest]) -> None:
    outside = (OTHER_NAMESPACE, OTHER_APP, NEW_COMPONENT, OTHER_RELEASE, INTERNET, METADATA)
    crossing = {
        connection
        for connection in connections(with_a_model, *outside)
        if {connection[0], connection[1]} & {p.name for p in outside}
    }
    api_server = {
        ("training", other.name, port)
        for other in (OTHER_NAMESPACE, OTHER_APP, OTHER_RELEASE, INTERNET, METADATA)
        for port in (443, 6443)
    }  # its address is not known to the chart: networkPolicy.kubernetes restricts it
    assert crossing == {("enrichment", "the internet", 443)} | api_server


def test_the_api_servers_address_can_be_restricted(helm: Helm) -> None:
    there = Peer("the API server", address="10.200.0.10")
    values = {"networkPolicy": {"kubernetes": [{"ipBlock": {"cidr": "10.200.0.10/32"}}]}}
    found = connections(helm.render("try", values), there, INTERNET, OTHER_NAMESPACE)
    assert {connection for connection in found if connection[0] == "training" and connection[1] != "minio"} == {
        ("training", "the API server", 443),
        ("training", "the API server", 6443),
    }


def test_names_can_be_resolved_everywhere(trying: list[Manifest]) -> None:
    policies = list(named(trying, "NetworkPolicy").values())
    dns = Peer("dns", {"k8s-app": "kube-dns"}, namespace="kube-system")
    without_dns = {peer.name for peer in peers(trying).values() if not reaches(policies, peer, dns, 53)}
    assert without_dns == {"minio", "postgresql"}, "they open no connections"


CALLER = Peer("caller", {"app": "game"}, namespace="games")
INGRESS_CONTROLLER = Peer("ingress controller", {"app": "nginx"}, namespace="ingress")
SCRAPER = Peer("scraper", {"app": "prometheus"}, namespace="monitoring")
MONITORING = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
FROM_OUTSIDE: list[tuple[str, Peer, dict[str, Any], set[tuple[str, str, int]]]] = [
    ("a caller that is allowed", CALLER,
     {"services": {"inference": {"allowedCallers": [
         {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "games"}},
          "podSelector": {"matchLabels": {"app": "game"}}}]}}},
     {("caller", "inference", GRPC)}),
    ("the page behind a proxy", INGRESS_CONTROLLER,
     {"services": {"curation": {"webCallers": [
         {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]}}},
     {("ingress controller", "curation", WEB)}),
    ("programs that call inference over HTTP", CALLER,
     {"services": {"inference": {"serves": ["grpc", "web"], "webCallers": [
         {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "games"}}}]}}},
     {("caller", "inference", WEB)}),
    ("Prometheus", SCRAPER,
     {"prometheus": {"scrapers": MONITORING},
      "llm": {"vllm": {"enabled": True, "model": MODEL}}},
     {("scraper", name, METRICS) for name in SERVICES | {"monitor"}} | {("scraper", "vllm", HTTP)}),
]  # fmt: skip


@pytest.mark.parametrize(("who", "peer", "values", "expected"), FROM_OUTSIDE, ids=[row[0] for row in FROM_OUTSIDE])
def test_callers_from_outside_are_permitted_when_named(
    helm: Helm, who: str, peer: Peer, values: dict[str, Any], expected: set[Any]
) -> None:
    same_namespace = Peer("another Pod", {"app": "other"}, namespace="default")
    found = {
        a for a in connections(helm.render("try", values), peer, same_namespace) if a[0] in (peer.name, "another Pod")
    }
    assert found == expected, who


def test_traces_go_to_the_collector(helm: Helm) -> None:
    collector = Peer("collector", {"app": "otel"}, {"http": 80}, namespace="monitoring")
    values = {"telemetry": {"otlpEndpoint": "http://collector.monitoring.svc:80", "egress": MONITORING}}
    found = connections(helm.render("try", values), collector)
    assert {a[0] for a in found if a[1] == "collector" and a[2] == 80} == SERVICES | set(CALLS) | STORE | DATABASE


def test_production_connects_to_its_own_store_and_database(production: list[Manifest]) -> None:
    store, database = Peer("store", address="52.219.0.1"), Peer("database", address="10.9.0.5")
    found = connections(production, store, database)
    assert {a[0] for a in found if a[1] == "store" and a[2] == 443} == STORE
    assert {a[0] for a in found if a[1] == "database" and a[2] == SQL} == DATABASE
    assert not [a for a in found if a[1] == "store" and a[2] not in (443, SQL, 6443)]


def test_without_policies_there_are_none(helm: Helm) -> None:
    assert not named(helm.render("try", {"networkPolicy": {"enabled": False}}), "NetworkPolicy")
