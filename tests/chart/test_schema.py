"""Values that are misspelt, of a wrong type or contradictory are refused, and the message says where."""

from typing import Any

import pytest

from tests.chart.rendering import Helm, HelmError
from tests.chart.variants import MODEL

WRONG = [
    ("/services/rendering", "'replica'", {"services": {"rendering": {"replica": 2}}}),
    ("/image", "'pullSecrets'", {"image": {"pullSecrets": ["x"]}}),
    (
        "/services/monitor/image",
        "object",
        {"services": {"rendering": {"image": "x"}, "monitor": {"image": "pipeline"}}},
    ),
    ("/services/rendering", "'volumes'", {"services": {"rendering": {"volumes": []}}}),
    ("/podLabels/app.kubernetes.io~1component", "false schema", {"podLabels": {"app.kubernetes.io/component": "x"}}),
    ("/training/image/digest", "pattern", {"training": {"image": {"digest": "latest"}}}),
    ("/store/s3/auth", "one of", {"store": {"s3": {"auth": "gke"}}}),
    (
        "/services/curation/httpRoute/parentRefs",
        "minItems",
        {"services": {"curation": {"httpRoute": {"enabled": True}}}},
    ),
    ("/credentials/timeStamps/timeoutSeconds", "maximum", {"credentials": {"timeStamps": {"timeoutSeconds": 60}}}),
    ("''", "'servces'", {"servces": {}}),
    ("/store/s3", "'accessKey'", {"store": {"s3": {"accessKey": "x"}}}),
    ("/llm/vllm/model", "'folder'", {"llm": {"vllm": {"model": {"folder": "x"}}}}),
    ("/services/inference/autoscaling", "'max'", {"services": {"inference": {"autoscaling": {"max": 2}}}}),
    ("/services/rendering/replicas", "integer", {"services": {"rendering": {"replicas": "two"}}}),
    ("/services/rendering/env/LUTHIER_SLOTS", "want", {"services": {"rendering": {"env": {"LUTHIER_SLOTS": [2]}}}}),
    ("/services/rendering/needs/0", "one of", {"services": {"rendering": {"needs": ["disk"]}}}),
    ("/defaults/drainSeconds", "600", {"defaults": {"drainSeconds": 601}}),
    ("/defaults/scratch", "pattern", {"defaults": {"scratch": "4GB"}}),
    ("/nodePools/gpu/gpus", "integer", {"nodePools": {"gpu": {"gpus": "one"}}}),
    ("/nodePools/bare", "selector", {"nodePools": {"bare": {"gpus": 1}}}),
    ("/store/s3/endpoint", "pattern", {"store": {"s3": {"endpoint": "https://s3.example.org"}}}),
    ("/expiry/hours", "minimum", {"expiry": {"hours": 0}}),
    ("/expiry/schedule", "pattern", {"expiry": {"schedule": "hourly"}}),
    ("/expiry/schedule", "pattern", {"expiry": {"schedule": "17 * * *"}}),
    ("/store/s3/expected", "boolean", {"store": {"s3": {"expected": "yes"}}}),
    ("/tls/clientAuth", "one of", {"tls": {"clientAuth": "always"}}),
    ("/tls/secret", "minLength", {"tls": {"clientAuth": "mutual"}}),
    ("/auth/callerInFlight", "integer", {"auth": {"callerInFlight": "four"}}),
    ("/tryout/minio/enabled", "boolean", {"tryout": {"minio": {"enabled": "yes"}}}),
    ("/networkPolicy/dns/0", "'namespace'", {"networkPolicy": {"dns": [{"namespace": "kube-system"}]}}),
    ("/pipeline", "'queueName'", {"pipeline": {"queueName": "cpu"}}),
    ("/training", "'calls'", {"training": {"calls": ["inference"]}}),
    ("/services/infrence", "'image'", {"services": {"infrence": {"replicas": 2}}}),
    (
        "/services/inference/autoscaling/minReplicas",
        "want 1",
        {"services": {"inference": {"autoscaling": {"minReplicas": 0}}}},
    ),
    ("/llm/vllm/autoscaling/minReplicas", "want 1", {"llm": {"vllm": {"autoscaling": {"minReplicas": 0}}}}),
    ("/services/analysis/autoscaling", "'triggers'", {"services": {"analysis": {"autoscaling": {"enabled": True}}}}),
    (
        "/services/prompting/ingress",
        "'port'",
        {"services": {"prompting": {"ingress": {"enabled": True, "host": "a.b"}}}},
    ),
    ("/services/curation/ingress/host", "minLength", {"services": {"curation": {"ingress": {"enabled": True}}}}),
    (
        "/services/inference/grpcRoute/parentRefs",
        "minItems",
        {"services": {"inference": {"grpcRoute": {"enabled": True}}}},
    ),
    ("/defaults/replicas", "false schema", {"defaults": {"replicas": 2}}),
    (
        "/services/rendering/resources/limits/cpu",
        "want",
        {"services": {"rendering": {"resources": {"limits": {"cpu": [1]}}}}},
    ),
]

WITHOUT_MINIO: dict[str, Any] = {"tryout": {"minio": {"enabled": False}}}
CONTRADICTORY: list[tuple[str, str, dict[str, Any]]] = [
    ("", "store.s3.existingSecret is missing: a Secret with the keys access-key and secret-key, for all that have none",
     {"store": {"s3": {"componentSecrets": {"rendering": "s3-rendering"}}}}),
    ("try", 'store.s3.componentSecrets: "migrate" does not open the store; those that do are analysis, curation',
     {"store": {"s3": {"componentSecrets": {"migrate": "s3-migrate"}}}}),
    ("try", 'tls.componentSecrets: there is no component "renderer"; there are analysis, curation',
     {"tls": {"secret": "tls", "componentSecrets": {"renderer": "tls-rendering"}}}),
    ("try", 'nodePool "a100" is not one of nodePools: default, gpu', {"services": {"inference": {"nodePool": "a100"}}}),
    ("try", 'nodePool "a100" is not one of nodePools: default, gpu', {"training": {"nodePool": "a100"}}),
    ("try", "auth.quotas needs auth.callersSecret", {"auth": {"quotas": {"shop": {"calls": 1}}}}),
    ("", "store.s3.existingSecret is missing", {}),
    ("", "store.s3.endpoint is missing", {"store": {"s3": {"existingSecret": "s3"}}}),
    ("try", "services.curation.replicas must be 1 with the embedded database",
     {"services": {"curation": {"replicas": 2}}, "database": {"existingSecret": ""},
      "tryout": {"postgresql": {"enabled": False}}}),
    ("try", "tryout.postgresql needs database.existingSecret", {"database": {"existingSecret": ""}}),
    ("try", "prometheus.address is missing", {"services": {"rendering": {"autoscaling": {"enabled": True}}}}),
    ("try", "exclude each other",
     {"llm": {"vllm": {"enabled": True, "model": MODEL}, "external": {"url": "http://a/v1", "model": "a"}}}),
    ("try", "llm.external.model is missing", {"llm": {"external": {"url": "http://a/v1"}}}),
    ("try", "llm.vllm.model.name is missing", {"llm": {"vllm": {"enabled": True, "model": {**MODEL, "name": ""}}}}),
    ("try", "llm.vllm.model.path is missing", {"llm": {"vllm": {"enabled": True, "model": {**MODEL, "path": ""}}}}),
    ("try", "llm.vllm.model.claim is missing", {"llm": {"vllm": {"enabled": True, "model": {**MODEL, "claim": ""}}}}),
    ("try", "llm.vllm.nodePool must be a pool with gpus",
     {"llm": {"vllm": {"enabled": True, "nodePool": "default", "model": {"name": "a"}}}}),
    ("try", 'services.evaluation.calls: "inferense" is none of services',
     {"services": {"evaluation": {"calls": ["inferense"]}}}),
    ("try", 'services.inference.ingress.port must be one of services.inference.serves, got "web"',
     {"services": {"inference": {"serves": ["grpc"], "ingress": {"enabled": True, "host": "a.b", "port": "web"}}}}),
    ("try", "autoscaling of rendering: minReplicas 9 is more than maxReplicas 8",
     {"services": {"rendering": {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 8}}}}),
    ("try", "services.enrichment: 11 Pods would share the rate of one address; at most 10",
     {"services": {"enrichment": {"replicas": 11}}}),
    ("try", "autoscaling of rendering: minReplicas must be 1 or more with kind hpa",
     {"services": {"rendering": {"autoscaling": {"enabled": True, "kind": "hpa"}}}}),
    ("try", "services.inference.httpRoute leads to the port web",
     {"services": {"inference": {"serves": ["grpc"], "httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}}}}),
    ("try", "tryout.minio needs store.s3.auth=static", {"store": {"s3": {"auth": "aws"}}}),
    ("try", 'store.s3.componentRoles: "migrate" does not open the store',
     {**WITHOUT_MINIO, "store": {"s3": {"endpoint": "a", "auth": "webIdentity",
                                        "componentRoles": {"migrate": "arn:aws:iam::1:role/a"}}}}),
    ("try", "credentials.timeStamps.required needs credentials.timeStamps.authority",
     {"credentials": {"timeStamps": {"required": True}}}),
    ("try", "auth.callersSecret needs auth.tokenSecret", {"auth": {"callersSecret": "callers"}}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "what", "values"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_wrong_values_are_refused_with_their_path(helm: Helm, path: str, what: str, values: dict[str, Any]) -> None:
    with pytest.raises(HelmError) as refused:
        helm.text("try", values)
    line = next(line for line in str(refused.value).splitlines() if path in line)
    assert what in line


@pytest.mark.parametrize(("profile", "why", "values"), CONTRADICTORY, ids=lambda v: v if isinstance(v, str) else "")
def test_contradictory_values_are_refused_with_the_reason(
    helm: Helm, profile: str, why: str, values: dict[str, Any]
) -> None:
    with pytest.raises(HelmError) as refused:
        helm.text(profile, values)
    assert why in str(refused.value)


def test_a_release_name_too_long_for_jobs_is_refused(helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm.text("try", release="a" * 31)
    assert "at most 30 characters" in str(refused.value)


def test_the_production_profile_is_checked_too(helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm.text("production", {"services": {"inference": {"allowedCaller": []}}})
    (line,) = [line for line in str(refused.value).splitlines() if "/services/inference" in line]
    assert "'allowedCaller' not allowed" in line
