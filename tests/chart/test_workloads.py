"""Every workload has its probes, time to stop, disruption budget, ServiceAccount and environment."""

import json
import re
from functools import cache
from typing import Any

import pytest

from tests.chart.rendering import CHART, Helm, Manifest, env, jobs, named, pods
from tests.chart.variants import SWITCHES, VARIANTS

ROOT = CHART.parents[1]
SERVERS = {"rendering", "analysis", "enrichment", "prompting", "curation", "training", "inference", "evaluation"}
KEDA_TRIGGER = {"name": "waiting", "query": "sum(a)", "threshold": "1", "absentIsZero": False}
KEDA: dict[str, Any] = {
    "pollingSeconds": 10,
    "cooldownSeconds": 120,
    "scaleDownSeconds": 120,
    "triggers": [KEDA_TRIGGER],
}
LIBRARY_NAMES = {"HOME", "DEVICE", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES", "PROMPT", "USER"}


def test_every_service_has_its_objects(variant: list[Manifest]) -> None:
    for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"):
        assert set(named(variant, kind)) >= SERVERS | {"monitor"}, kind


def test_services_are_headless_and_select_their_pods(variant: list[Manifest]) -> None:
    found = {pod.component: pod for pod in pods(variant)}
    for name, service in named(variant, "Service").items():
        assert service["spec"].get("clusterIP") == (None if name == "vllm" else "None")
        assert service["spec"]["selector"].items() <= found[name].labels.items()
        for port in service["spec"]["ports"]:
            assert found[name].ports[port["targetPort"]] == port["port"]


def test_inference_is_reached_over_http_where_it_serves_the_web(helm: Helm, production: list[Manifest]) -> None:
    for manifests, ports in (
        (production, {"grpc": 7100, "metrics": 7200}),
        (helm.render(*VARIANTS["http"]), {"grpc": 7100, "metrics": 7200, "web": 7300}),
    ):
        service = named(manifests, "Service")["inference"]
        container = named(manifests, "Deployment")["inference"]["spec"]["template"]["spec"]["containers"][0]
        assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports
        assert env(container).get("LUTHIER_WEB_ADDRESS") == ("0.0.0.0:7300" if "web" in ports else None)


def test_inference_alone_keeps_quotas_and_leaves_prompts_out(helm: Helm) -> None:
    quotas, left_out = (
        {pod.component: pod for pod in pods(helm.render(*VARIANTS[name]))} for name in ("quotas", "prompts-left-out")
    )

    told = {name: env(pod.spec["containers"][0]).get("LUTHIER_CALLER_QUOTAS") for name, pod in quotas.items()}
    assert {name: value for name, value in told.items() if value} == {"inference": "*=,shop=calls:1000"}
    keys = {name: env(pod.spec["containers"][0]).get("LUTHIER_PROMPT_KEY_FILE") for name, pod in left_out.items()}
    assert {name: path for name, path in keys.items() if path} == {"inference": "/etc/luthier/prompts/prompt-key"}
    [volume] = [each["secret"] for each in left_out["inference"].spec["volumes"] if each["name"] == "prompts"]
    assert (volume["secretName"], volume["items"][0]["path"]) == ("prompts", "prompt-key")


def test_inference_signs_by_the_certificate_in_the_secret_that_is_named(helm: Helm) -> None:
    found = {pod.component: pod for pod in pods(helm.render(*VARIANTS["credentials"]))}

    for name, pod in found.items():
        volumes = [each["secret"] for each in pod.spec["volumes"] if each["name"] == "credentials"]
        told = env(pod.spec["containers"][0])
        paths = [told.get("LUTHIER_CREDENTIALS_CERTIFICATE"), told.get("LUTHIER_CREDENTIALS_KEY")]
        if name == "inference":
            [volume] = volumes
            assert volume["secretName"] == "c2pa"
            assert paths == [f"/etc/luthier/credentials/{item['path']}" for item in volume["items"]]
        else:
            assert (volumes, paths) == ([], [None, None])


def test_inference_alone_asks_the_time_stamping_authority_and_knows_whom_to_trust(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["credentials"])
    stamps = ("LUTHIER_CREDENTIALS_AUTHORITY", "LUTHIER_CREDENTIALS_AUTHORITY_S", "LUTHIER_CREDENTIALS_TIME_STAMP")

    for pod in pods(manifests):
        told = env(pod.spec["containers"][0])
        mounted = [each["configMap"]["name"] for each in pod.spec.get("volumes", ()) if each["name"] == "trust"]
        asks = [told.get(name) for name in (*stamps, "LUTHIER_CREDENTIALS_TRUST")]
        if pod.component == "inference":
            expected = ["http://time.example.org/stamp", "10", "required", "/etc/luthier/trust/trust.pem"]
            assert (asks, mounted) == (expected, ["c2pa-trust"])
        else:
            assert (asks, mounted) == (4 * [None], [])
    reached = {
        name: any(port["port"] == 80 for rule in policy["spec"].get("egress", ()) for port in rule["ports"])
        for name, policy in named(manifests, "NetworkPolicy").items()
    }
    assert {name for name, there in reached.items() if there} == {"inference"}


def test_inference_alone_gets_the_watermarks_program_and_key(helm: Helm) -> None:
    found = {pod.component: pod for pod in pods(helm.render(*VARIANTS["credentials"]))}

    for name, pod in found.items():
        mounted = [each for each in pod.spec.get("volumes", ()) if each["name"] == "watermark"]
        told = env(pod.spec["containers"][0])
        if name == "inference":
            [volume] = mounted
            assert volume["secret"]["secretName"] == "watermark-key"
            assert told["LUTHIER_WATERMARK"] == "/opt/audiowmark"
            assert told["LUTHIER_WATERMARK_KEY"] == f"/etc/luthier/watermark/{volume['secret']['items'][0]['path']}"
        else:
            assert not mounted
            assert "LUTHIER_WATERMARK" not in told


def test_the_readme_names_every_caller_whose_token_a_pod_mounts(helm: Helm) -> None:
    found = pods(helm.render(*VARIANTS["callers"]))
    volumes = [volume["secret"] for pod in found for volume in pod.spec.get("volumes", ()) if volume["name"] == "token"]
    mounted = {item["key"] for volume in volumes for item in volume["items"]}

    [row] = [line for line in (CHART / "README.md").read_text().splitlines() if line.startswith("| `luthier-tokens` |")]

    assert mounted == set(re.findall(r"`(\w+)`", row.partition("own callers:")[2].partition(";")[0]))


def test_health_is_probed_on_its_own_port(variant: list[Manifest]) -> None:
    for name, deployment in named(variant, "Deployment").items():
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if name in SERVERS:
                assert container[probe]["grpc"] == {"port": 7110}
            else:
                assert container[probe]["httpGet"]["path"] in ("/healthz", "/health")
        if name in SERVERS:
            assert env(container)["LUTHIER_HEALTH_ADDRESS"] == "0.0.0.0:7110"


def test_a_pods_grace_is_longer_than_its_server_needs_to_stop(variant: list[Manifest]) -> None:
    for name, deployment in named(variant, "Deployment").items():
        spec = deployment["spec"]["template"]["spec"]
        container = spec["containers"][0]
        variables = env(container)
        hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = hook + float(variables.get("LUTHIER_DRAIN_S", 0)) + float(variables.get("LUTHIER_GRACE_S", 0))
        assert spec["terminationGracePeriodSeconds"] > needed, name
        assert (name in SERVERS) == ("LUTHIER_GRACE_S" in variables)


@pytest.mark.parametrize(
    ("values", "workers"),
    [
        ({}, "1"),
        ({"replicas": 0}, "1"),
        ({"replicas": 2}, "2"),
        ({"replicas": 2, "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 4, **KEDA}}, "4"),
    ],
)
def test_workers_of_enrichment_share_the_rate_of_their_address(
    helm: Helm, values: dict[str, Any], workers: str
) -> None:
    prometheus = {"address": "http://prometheus.monitoring.svc:9090"}
    manifests = helm.render("try", {"services": {"enrichment": values}, "prometheus": prometheus})
    container = named(manifests, "Deployment")["enrichment"]["spec"]["template"]["spec"]["containers"][0]
    assert env(container)["LUTHIER_ENRICHMENT_WORKERS"] == workers


@pytest.mark.parametrize(("more", "slots"), [({}, "16"), ({"LUTHIER_SLOTS": 64}, "64")])
def test_calls_that_wait_for_a_language_model_are_many(helm: Helm, more: dict[str, int], slots: str) -> None:
    values = SWITCHES["external-llm"] | {"services": {"prompting": {"env": more}}}
    container = named(helm.render("try", values), "Deployment")["prompting"]["spec"]["template"]["spec"]["containers"][
        0
    ]
    assert env(container)["LUTHIER_SLOTS"] == slots


def test_the_longest_call_fits_into_the_grace(trying: list[Manifest]) -> None:
    """Defaults of the services' own limits, from their settings and the pipeline's deadlines."""
    longest = {
        "rendering": default("rendering", "LUTHIER_RENDER_TIMEOUT_S"),
        "inference": default("evaluation", "LUTHIER_GENERATE_TIMEOUT_S"),
        "analysis": 900.0,
        "prompting": 300.0,
    }
    for name, seconds in longest.items():
        variables = env(named(trying, "Deployment")[name]["spec"]["template"]["spec"]["containers"][0])
        assert float(variables["LUTHIER_GRACE_S"]) >= seconds, name


def default(service: str, variable: str) -> float:
    """The default of a setting, read from the service's settings."""
    text = (ROOT / f"services/{service}/luthier_{service}/settings.py").read_text()
    found = re.search(rf'"{variable}",\s*default=([0-9.]+)', text)
    assert found, variable
    return float(found[1])


def test_a_disruption_budget_leaves_one_pod(variant: list[Manifest]) -> None:
    deployments = named(variant, "Deployment")
    for name, budget in named(variant, "PodDisruptionBudget").items():
        spec, deployment = budget["spec"], deployments[name]["spec"]
        assert spec["selector"] == deployment["selector"]
        assert spec["maxUnavailable"] == 1
        assert "minAvailable" not in spec
        replicas = deployment.get("replicas")
        assert replicas in (None, 1) or replicas - spec["maxUnavailable"] >= 1


def test_production_has_two_pods_of_what_others_call(production: list[Manifest]) -> None:
    deployments, scaled = named(production, "Deployment"), named(production, "ScaledObject")
    for name in ("inference", "curation", "prompting", "analysis"):
        least = scaled[name]["spec"]["minReplicaCount"] if name in scaled else deployments[name]["spec"]["replicas"]
        assert least >= 2, name


def test_pods_spread_over_nodes(variant: list[Manifest]) -> None:
    for name, deployment in named(variant, "Deployment").items():
        spec = deployment["spec"]["template"]["spec"]
        keys = [c["topologyKey"] for c in spec["topologySpreadConstraints"]]
        assert "kubernetes.io/hostname" in keys, name
        for constraint in spec["topologySpreadConstraints"]:
            assert constraint["labelSelector"] == deployment["spec"]["selector"]


def test_an_update_never_takes_the_last_pod_away(production: list[Manifest]) -> None:
    for name, deployment in named(production, "Deployment").items():
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}, name


def test_the_embedded_database_has_one_writer(helm: Helm) -> None:
    values = {"database": {"existingSecret": ""}, "tryout": {"postgresql": {"enabled": False}}}
    manifests = helm.render("try", values)
    spec = named(manifests, "Deployment")["curation"]["spec"]
    assert spec["strategy"] == {"type": "Recreate"}
    claim = named(manifests, "PersistentVolumeClaim")["curation"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not [name for name in named(manifests, "Job") if name.startswith("migrate")]


def test_every_variable_is_read_by_some_code(variant: list[Manifest]) -> None:
    """A misspelt name would have no effect."""
    for pod in pods(variant):
        if pod.component in ("vllm", "minio", "postgresql"):
            continue
        for container in pod.containers:
            unknown = {name for name in env(container) if not known(name)}
            assert not unknown, pod.component


def known(name: str) -> bool:
    text = sources()
    address = re.fullmatch(r"LUTHIER_([A-Z]+)_ADDRESS", name)
    return (
        name in LIBRARY_NAMES
        or f'"{name}"' in text
        or (name.endswith("_FILE") and f'"{name.removesuffix("_FILE")}"' in text)
        or bool(address and address[1].lower() in SERVERS)
    )


@cache
def sources() -> str:
    """All of the services' code."""
    files = (ROOT / "services").glob("*/luthier_*/**/*.py")
    return "\n".join(path.read_text() for path in files)


def test_a_changed_job_template_restarts_the_launcher(helm: Helm, trying: list[Manifest]) -> None:
    changed = helm.render("try", {"training": {"env": {"LUTHIER_TRAINING_THREADS": 2}}})
    assert checksum(changed) != checksum(trying)


def checksum(manifests: list[Manifest]) -> str:
    metadata = named(manifests, "Deployment")["training"]["spec"]["template"]["metadata"]
    return str(metadata["annotations"]["checksum/jobs"])


def test_volumes_stay_when_the_release_is_uninstalled(trying: list[Manifest]) -> None:
    for name, node in named(trying, "StatefulSet").items():
        retention = node["spec"]["persistentVolumeClaimRetentionPolicy"]
        assert retention == {"whenDeleted": "Retain", "whenScaled": "Retain"}, name


@pytest.mark.parametrize("what", ["prepare-store", "migrate"])
def test_preparing_jobs_run_again_when_anything_changed(helm: Helm, trying: list[Manifest], what: str) -> None:
    def named_so(manifests: list[Manifest]) -> tuple[str, Manifest]:
        (found,) = [(name, job) for name, job in named(manifests, "Job").items() if name.startswith(f"{what}-")]
        return found

    name, job = named_so(trying)
    assert job["spec"]["backoffLimit"] >= 10
    assert "helm.sh/hook" not in job["metadata"].get("annotations", {}), (
        "a hook would run before the store that it needs"
    )
    assert named_so(helm.render("try", {"image": {"tag": "9.9.9"}}))[0] != name, "a Job's Pod cannot be changed"


def test_names_fit_where_a_release_name_is_long(helm: Helm) -> None:
    release = "a" * 30
    manifests = helm.text("try", release=release)
    names = re.findall(rf"name: ({release}[a-z0-9-]*)", manifests)
    assert max(len(name) for name in names) <= 52
    longest_job = max(len(job["metadata"]["name"]) for job in jobs(helm.render("try")).values())
    assert longest_job - len("lt") + len(release) + len("-0123456789abcdef-") + len("99999-abcde") <= 63 + 11


def test_parts_of_a_pod_refer_to_each_other(variant: list[Manifest]) -> None:
    """Checks of the API server that are not in the schema."""
    for pod in pods(variant):
        volumes = [volume["name"] for volume in pod.spec["volumes"]]
        assert len(volumes) == len(set(volumes)), pod.component
        claims = [c["metadata"]["name"] for c in pod.owner["spec"].get("volumeClaimTemplates", [])]
        for container in pod.containers:
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(mounts) == len(set(mounts)), pod.component
            assert {mount["name"] for mount in container["volumeMounts"]} <= {*volumes, *claims}, pod.component
            names = [item["name"] for item in container.get("env", [])]
            assert len(names) == len(set(names)), pod.component


def test_callers_have_the_permissions_of_the_values_and_luthiers_own_are_named(helm: Helm) -> None:
    auth = {"callersSecret": "callers", "tokenSecret": "tokens", "permissions": {"shop": ["generate"], "*": ["read"]}}
    manifests = helm.render("try", {"auth": auth})
    for name in SERVERS:
        container = named(manifests, "Deployment")[name]["spec"]["template"]["spec"]["containers"][0]
        granted = dict(entry.split("=") for entry in env(container)["LUTHIER_CALLER_PERMISSIONS"].split(","))
        assert granted.items() >= {"shop": "generate", "*": "read", "evaluation": "read+generate+operate"}.items()
        assert granted["monitor"] == "read"
        assert granted["curation"] == "read+operate", "analysis cuts for it, evaluation embeds"
        assert granted["inference"] == "read+operate", "analysis hears what it made"
    open_to_all = named(helm.render("try"), "Deployment")["inference"]["spec"]["template"]["spec"]["containers"][0]
    assert "LUTHIER_CALLER_PERMISSIONS" not in env(open_to_all)


TABLE = json.loads((ROOT / "deploy/store/access.json").read_text())


def test_each_component_may_have_a_key_of_its_own(helm: Helm) -> None:
    """The table of deploy/store names those that open the store; the shared Secret is then in no Pod but MinIO's."""
    own = {component: f"s3-{component}" for component in TABLE.keys() - {"all"}}
    found = {}
    for pod in pods(helm.render("try", {"store": {"s3": {"componentSecrets": own}}})):
        volumes = [v["secret"]["secretName"] for v in pod.spec["volumes"] if v["name"] == "s3"]
        if volumes:
            (found[pod.component],) = volumes
    assert found == own


def test_each_component_may_have_a_certificate_of_its_own(helm: Helm) -> None:
    own = {"pipeline": "tls-pipeline", "inference": "tls-inference"}
    values = {"tls": {"secret": "tls", "clientAuth": "mutual", "componentSecrets": own}}
    found = {
        pod.component: volume["secret"]["secretName"]
        for pod in pods(helm.render("try", values))
        for volume in pod.spec["volumes"]
        if volume["name"] == "tls"
    }
    assert {component: found.pop(component) for component in own} == own
    assert set(found.values()) == {"tls"}


def test_others_have_the_shared_key(helm: Helm) -> None:
    values = {"store": {"s3": {"componentSecrets": {"rendering": "s3-rendering"}}}}
    secrets = {
        pod.component: volume["secret"]["secretName"]
        for pod in pods(helm.render("try", values))
        for volume in pod.spec["volumes"]
        if volume["name"] == "s3"
    }
    assert secrets.pop("rendering") == "s3-rendering"
    assert set(secrets.values()) == {"luthier-s3"}
