"""Every value that the schema accepts is read, which the manifests show when it is set, and described.

The schema is walked. Texts, lists and maps carry a mark that must appear in the manifests, all in one rendering of each
basis; numbers, switches and choices are changed one at a time.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from tests.chart.rendering import Helm
from tests.chart.values_tables import Values
from tests.chart.variants import MODEL, PROMETHEUS

TABLES = Values()
DIGEST = "sha256:" + "cd" * 32
SCALED = {"enabled": True, "minReplicas": 1}
ROUTED = {"enabled": True, "parentRefs": [{"name": "gateway"}]}
EVERYTHING: dict[str, Any] = {
    "nodePools": {
        "marked": {"selector": {"pool": "marked"}, "gpus": 1},
        "other": {"selector": {"pool": "other"}},
        "best": {"selector": {"pool": "best"}, "gpus": 1},
    },
    "services": {
        "another": {"image": {"name": "another"}},
        "inference": {
            "serves": ["grpc", "web"],
            "autoscaling": SCALED,
            "nodePool": "marked",
            "grpcRoute": ROUTED,
            "httpRoute": ROUTED,
            "ingress": {"enabled": True, "host": "a.example.org"},
        },
    },
    "training": {"nodePool": "marked"},
    "prometheus": {**PROMETHEUS, "serviceMonitor": {"enabled": True}, "rules": {"enabled": True}},
    "dashboards": {"enabled": True},
    "llm": {"vllm": {"enabled": True, "model": MODEL, "autoscaling": SCALED}},
    "telemetry": {"otlpEndpoint": "http://collector:4318"},
    "tls": {"secret": "tls"},
    "auth": {"callersSecret": "callers", "tokenSecret": "tokens"},
}
"""Optional features, as far as they go together."""
OUTSIDE = {"tryout": {"minio": {"enabled": False}}, "store": {"s3": {"endpoint": "s3.example.org:9000"}}}
IDENTITY = {**OUTSIDE, "store": {"s3": {"endpoint": "s3.example.org:9000", "auth": "webIdentity"}}}
BASES: dict[str, dict[str, Any]] = {
    "": EVERYTHING,
    "credentials.timeStamps": {"credentials": {"timeStamps": {"authority": "http://time.example.org"}}},
    "database.sqlite": {"database": {"existingSecret": ""}, "tryout": {"postgresql": {"enabled": False}}},
    "database.port": {"tryout": {"postgresql": {"enabled": False}}},
    "database.egress": {"tryout": {"postgresql": {"enabled": False}}},
    "llm.external": {"llm": {"external": {"url": "http://llm.example.org/v1", "model": "a"}}},
    "llm.vllm.replicas": {"llm": {"vllm": {"enabled": True, "model": MODEL}}},
    "services.inference.replicas": {},
    "services.inference.serves": {},
    "tryout.minio.enabled": {"store": {"s3": {"endpoint": "s3.example.org:9000"}}},
    "store.s3.endpoint": OUTSIDE,
    "store.s3.secure": OUTSIDE,
    "store.s3.egress": OUTSIDE,
    "store.s3.auth": {**OUTSIDE, "store": {"s3": {"endpoint": "s3.example.org:9000"}}},
    "store.s3.role": IDENTITY,
    "store.s3.componentRoles": IDENTITY,
    "store.s3.sts": IDENTITY,
}
"""On which values a value is read, by the beginning of its name; the longest counts."""
UNREAD = {"global"}
"""A parent chart's: Helm hands it to every chart."""
EXAMPLES: dict[str, Any] = {
    "calls": ["rendering"],
    "quotas": {"{mark}": {"calls": 1}},
    "needs": ["store", "internet"],
    "serves": ["grpc"],
    "nodePool": "other",
    "vllm.nodePool": "best",
    "minio.enabled": False,
    "postgresql.enabled": False,
    "pullPolicy": "Always",
    "matchers": 'mark="{mark}"',
    "schedule": "{n} * * * *",
    "interval": "{n}s",
    "timeout": "{n}s",
    "gpus": 2,
    "prompt": "{mark}",
    "clusterDomain": "{mark}",
    "endpoint": "{mark}:9000",
    "host": "{mark}",
    "query": "{mark}",
    "url": "http://{mark}",
    "authority": "http://{mark}",
    "otlpEndpoint": "http://{mark}",
    "address": "http://{mark}",
    "path": "/models/{mark}",
    "program": "/{mark}",
    "role": "arn:{mark}",
    "componentRoles": {"rendering": "arn:{mark}"},
    "componentSecrets": {"rendering": "{mark}"},
    "permissions": {"{mark}": ["read"]},
    "registry": "{mark}",
    "tag": "{mark}",
    "args": ["{mark}"],
    "hostnames": ["{mark}"],
    "bucketsAllowed": ["{mark}"],
    "parentRefs": [{"name": "{mark}"}],
    "imagePullSecrets": [{"name": "{mark}"}],
    "tolerations": [{"key": "{mark}", "operator": "Exists"}],
    "extraEnv": [{"name": "{mark}", "value": "a"}],
    "extraVolumes": [{"name": "{mark}", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "a", "mountPath": "{mark}"}],
    "initContainers": [{"name": "{mark}"}],
    "sidecars": [{"name": "{mark}"}],
    "extraObjects": [{"kind": "{mark}"}],
    "digests": {"rendering": DIGEST},
    "digest": DIGEST,
    "image.name": "{mark}",
    "repository": "{mark}",
    "resources": {"requests": {"cpu": "1"}, "limits": {"{mark}": "1"}},
    "secretFiles": {"MARKED": {"secret": "{mark}", "key": "a"}},
    "env": {"MARKED": "{mark}"},
    "selector": {"{mark}": "a"},
    "sts.endpoint": "https://{mark}",
    "ports": [],
    "fullnameOverride": "mark",
    "triggers": [{"name": "{mark}", "query": "a", "threshold": "1", "absentIsZero": False}],
    "className": "{mark}",
    "tlsSecret": "{mark}",
    "model": "{mark}",
    "audience": "{mark}",
    "bucket": "{mark}",
    "region": "{mark}",
}
HIDING = ("image.name", "image.repository", "image.registry", "image.tag", "fullnameOverride")
WORKLOADS = ("", "defaults", "services.inference", "pipeline", "training", "prepare", "expiry", "tryout.minio",
             "tryout.postgresql", "llm.vllm")  # fmt: skip


@dataclass(frozen=True)
class Marked:
    """A value that was set, and the mark that the manifests must have; "" where they must only change."""

    name: str
    value: Any
    mark: str

    @property
    def basis(self) -> str:
        """The basis that it is read on."""
        return max((key for key in BASES if f"{self.name}.".startswith(f"{key}." if key else "")), key=len)

    def over(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values with this one set."""
        first, *more = reversed(self.name.split("."))
        made = {first: self.value}
        for part in more:
            made = {part: made}
        return merged(values, made)


def merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def marked(name: str, node: dict[str, Any], n: int) -> Iterator[Marked]:
    """The changes of one value of the schema."""
    mark = f"mark-{n}"
    last = [key for key in EXAMPLES if f".{name}".endswith(f".{key}")]
    node = TABLES.resolved(node)
    now = at(EVERYTHING, name, at(TABLES.defaults, name))
    if last:
        text = json.dumps(EXAMPLES[max(last, key=len)]).replace("{mark}", mark).replace("{n}", str(n % 60))
        yield Marked(name, json.loads(text), mark if mark in text else "")
    elif "enum" in node:
        yield Marked(name, next(choice for choice in node["enum"] if choice != (now or node["enum"][0])), "")
    elif node["type"] == "boolean":
        yield Marked(name, not (node.get("default", now) if now is not None else name.endswith(".create")), "")
    elif node["type"] == "integer":
        low, high = node.get("minimum", 0), node.get("maximum", 1000)
        yield Marked(name, next(value for value in (low + 3, high, low) if value != now), "")
    elif node["type"] == "string":
        size = "Ki|Mi" in node.get("pattern", "")
        yield Marked(name, f"{20000 + n}Mi" if size else mark, f"{20000 + n}Mi" if size else mark)
    elif node["type"] == "object":
        yield Marked(name, {mark: "a"}, mark)
    elif node["type"] == "array" and "ipBlock" in json.dumps(node):
        cidr = f"10.{n // 250}.{n % 250}.0/24"
        yield Marked(name, [{"ipBlock": {"cidr": cidr}}], cidr)
    else:
        raise AssertionError(f"{name} needs an example")


def at(values: Any, name: str, otherwise: Any = None) -> Any:
    for part in name.split("."):
        if not isinstance(values, dict) or part not in values:
            return otherwise
        values = values[part]
    return values


@cache
def values_of_the_schema() -> tuple[Marked, ...]:
    """A change of every value, those of services as of inference."""
    found: list[tuple[str, dict[str, Any]]] = []
    settings = [row for row in TABLES.rows() if row.name.startswith("<workload>.")]
    for row in TABLES.rows():
        name = row.name.replace("<service>", "inference").replace("<pool>", "marked")
        if row.name == "defaults":
            forbidden = {k for k, v in TABLES.schema["properties"]["defaults"]["properties"].items() if v is False}
            of_services = [r for r in TABLES.rows() if r.name.startswith("services.<service>.")]
            keys = [(r.name.removeprefix("services.<service>."), r.node) for r in of_services]
            found += [(f"defaults.{key}", node) for key, node in keys if key.partition(".")[0] not in forbidden]
        elif row.name.startswith("<workload>."):
            continue
        elif row.name == "llm.vllm.autoscaling":
            found += [
                (r.name.replace("services.<service>", "llm.vllm"), r.node)
                for r in TABLES.rows() if r.name.startswith("services.<service>.autoscaling.")
            ]  # fmt: skip
        elif name not in UNREAD:
            found.append((name, row.node))
    for workload in WORKLOADS[1:]:
        has_image = workload not in ("defaults", "prepare", "expiry")
        for row in settings:
            key = row.name.removeprefix("<workload>.")
            if f"{workload}.{key}" != "llm.vllm.image.name" and (has_image or not key.startswith("image.")):
                found.append((f"{workload}.{key}", row.node))
    return tuple(change for n, (name, node) in enumerate(found, 101) for change in marked(name, node, n))


def without_mark() -> list[Marked]:
    return [change for change in values_of_the_schema() if not change.mark]


def group_of(change: Marked) -> str:
    """The workload that a value is of, "" for those of the top level; off the usual basis, the basis."""
    if change.name.endswith(HIDING) and not change.name.startswith("image."):
        return change.name.rpartition(".")[2]  # a whole repository hides a name: such values are set one key at a time
    return change.basis or next((w for w in WORKLOADS[1:] if f"{change.name}.".startswith(f"{w}.")), "")


GROUPS = sorted({group_of(change) for change in values_of_the_schema() if change.mark})


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group or "top")
def test_texts_lists_and_maps_arrive_in_the_manifests(helm: Helm, group: str) -> None:
    """Values of one workload at a time, or one workload's would stand in the place of the general ones."""
    changes = [change for change in values_of_the_schema() if change.mark and group_of(change) == group]
    values = BASES[changes[0].basis]
    for change in changes:
        values = change.over(values)
    text = helm.text("try", values)
    assert [change.name for change in changes if not re.search(rf"{re.escape(change.mark)}(?!\d)", text)] == []


def test_numbers_switches_and_choices_change_the_manifests(helm: Helm) -> None:
    def changes(change: Marked) -> bool:
        base = BASES[change.basis]
        return helm.text("try", change.over(base)) != helm.text("try", base)

    for basis in {change.basis for change in without_mark()}:
        helm.text("try", BASES[basis])
    with ThreadPoolExecutor(2) as pool:
        changed = list(pool.map(changes, without_mark()))
    assert [c.name for c, did in zip(without_mark(), changed, strict=True) if not did] == []


def test_every_value_is_described() -> None:
    assert [row.name for row in TABLES.rows() if len(row.description) < 3] == []
