"""The conventional settings of Pods: of all, of a workload, and of the Jobs that services create when they run."""

import json
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, Helm, HelmError, Manifest, Pod, env, named, pods, read
from tests.chart.test_placement import GPU
from tests.chart.variants import DIGEST, SWITCHES, VARIANTS


@pytest.fixture(scope="module")
def settled(helm: Helm) -> dict[str, Pod]:
    return {pod.component: pod for pod in pods(helm.render(*VARIANTS["pod-settings"]))}


def metadata(pod: Pod) -> dict[str, Any]:
    """Metadata of the Pod, in whatever makes it."""
    spec = pod.owner["spec"]
    if pod.owner["kind"] == "Pod":
        return dict(pod.owner["metadata"])
    template = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    return dict(template["metadata"])


def test_settings_of_the_top_level_are_of_every_pod(settled: dict[str, Pod]) -> None:
    assert settled.keys() >= {"rendering", "ingest", "pipeline", "training-run", "prepare-store", "migrate", "expiry",
                              "test", "minio", "postgresql", "vllm"}  # fmt: skip
    for name, pod in settled.items():
        assert pod.spec["imagePullSecrets"] == [{"name": "registry"}], name
        assert pod.spec["nodeSelector"]["kubernetes.io/os"] == "linux", name
        assert {"key": "music", "operator": "Exists", "effect": "NoSchedule"} in pod.spec["tolerations"], name
        assert pod.spec["priorityClassName"] == ("low" if name == "training-run" else "music"), name
        assert metadata(pod)["labels"]["team"] == "audio", name
        assert metadata(pod)["annotations"]["example.org/team"] == "audio", name
        assert pod.spec["securityContext"]["runAsUser"] == 20002, name
        assert pod.spec["securityContext"]["runAsGroup"] == 10001, "what is not named stays"
        own = [c for c in pod.spec["containers"] if c["name"] != "logs"]
        assert all(c["securityContext"]["privileged"] is False for c in own), name
        assert {"name": "authorities", "configMap": {"name": "authorities"}} in pod.spec["volumes"], name
        for container in own:
            assert "/authorities" in {m["mountPath"] for m in container["volumeMounts"]}, name
            users = [item for item in container["env"] if item["name"] == "USER"]
            assert users == [{"name": "USER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}], name


def test_jobs_made_at_run_time_have_the_settings_of_their_workload(settled: dict[str, Pod]) -> None:
    spots = {n for n, pod in settled.items() if {"key": "spot", "operator": "Exists"} in pod.spec["tolerations"]}
    assert spots == {"ingest", "pipeline", "expiry"}
    assert settled["training-run"].spec["nodeSelector"]["disk"] == "fast"
    assert metadata(settled["expiry"])["annotations"]["example.org/expiry"] == "yes"
    assert "example.org/expiry" not in metadata(settled["pipeline"])["annotations"]


def test_further_containers_stand_beside_luthiers_and_are_as_restricted(settled: dict[str, Pod]) -> None:
    with_logs = {name for name, pod in settled.items() if pod.spec["containers"][-1]["name"] == "logs"}
    assert with_logs == settled.keys() - {"training-run"}
    for name in with_logs:
        first, *_, last = settled[name].spec["containers"]
        assert first["name"] != "logs", "a Job's arguments are the first container's"
        assert settled[name].spec["initContainers"][0]["name"] == "proxy", name
        assert last["securityContext"] == first["securityContext"], name


def test_a_containers_own_security_context_stays_as_it_is(helm: Helm) -> None:
    sidecars = [{"name": "a", "image": "a:1", "securityContext": {"runAsUser": 1}}]
    found = named(helm.render("try", {"services": {"analysis": {"sidecars": sidecars}}}), "Deployment")["analysis"]
    assert found["spec"]["template"]["spec"]["containers"][1]["securityContext"] == {"runAsUser": 1}


def test_null_takes_the_user_out_for_platforms_that_set_it(helm: Helm) -> None:
    values = {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
    for pod in pods(helm.render("try", values)):
        assert not pod.spec["securityContext"].keys() & {"runAsUser", "runAsGroup", "fsGroup"}, pod.component
        assert pod.spec["securityContext"]["runAsNonRoot"] is True


def admits(pod: Pod, labels: dict[str, str]) -> bool:
    """Whether what node affinity requires admits a node of these labels: an OR of ANDs, here of NotIn."""
    terms = pod.spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return any(all(labels.get(e["key"]) not in e["values"] for e in term["matchExpressions"]) for term in terms)


def test_required_node_affinity_holds_beside_the_avoidance_of_gpu_nodes(settled: dict[str, Pod]) -> None:
    """The values allow a zone that is not b, or one that is not c: any zone. Never a node of a GPU pool."""
    pod = settled["rendering"]
    assert admits(pod, {"zone": "b"})
    assert admits(pod, {"zone": "c"})
    assert not admits(pod, {"zone": "a", **GPU[0]})
    both = settled["vllm"]
    assert admits(both, {"zone": "b", **GPU[0]}), "in its GPU pool only the values' affinity counts"


@pytest.fixture(scope="module")
def pinned(helm: Helm) -> dict[str, dict[str, Any]]:
    found = pods(helm.render(*VARIANTS["pinned-images"]))
    return {f"{pod.component}/{c['name']}": c for pod in found for c in pod.containers}


@pytest.mark.parametrize(
    ("container", "image", "policy"),
    [
        ("rendering/rendering", "luthier.local/team/luthier/rendering:0.1.0", "IfNotPresent"),
        ("monitor/monitor", f"luthier.local/team/luthier/pipeline@{DIGEST}", "IfNotPresent"),
        ("pipeline/pipeline", f"luthier.local/team/luthier/pipeline@{DIGEST}", "IfNotPresent"),
        ("expiry/expiry", f"luthier.local/team/luthier/pipeline@{DIGEST}", "IfNotPresent"),
        ("test/generate", f"luthier.local/team/luthier/pipeline@{DIGEST}", "IfNotPresent"),
        ("curation/curation", "mirror.example.org/curation:2", "IfNotPresent"),
        ("migrate/migrate", "mirror.example.org/curation:2", "IfNotPresent"),
        ("training/training", "luthier.local/team/luthier/training:0.1.0", "IfNotPresent"),
        ("training-run/training-run", f"luthier.local/team/luthier/training@{DIGEST}", "Always"),
        ("minio/minio", "quay.io/minio/minio:latest", "IfNotPresent"),
    ],
)
def test_images_follow_the_general_values_and_those_of_the_workload(
    pinned: dict[str, dict[str, Any]], container: str, image: str, policy: str
) -> None:
    assert (pinned[container]["image"], pinned[container]["imagePullPolicy"]) == (image, policy)


def test_names_labels_and_annotations_of_all_objects(helm: Helm) -> None:
    values = {**SWITCHES["renamed"], "fullnameOverride": "songs"}
    manifests = helm.render("try", values)
    own = [m for m in manifests if m["metadata"]["name"] != "lt-more" and "text" not in m["metadata"]["name"]]
    for manifest in [*own, *jobs_of(manifests)]:
        assert manifest["metadata"]["name"].startswith("songs-"), manifest["metadata"]["name"]
        assert manifest["metadata"]["labels"].items() >= {"team": "audio", "app.kubernetes.io/name": "music"}.items()
        assert manifest["metadata"]["annotations"]["example.org/contact"] == "audio"
    assert {m["metadata"]["name"] for m in manifests} - {m["metadata"]["name"] for m in own} == {
        "lt-more",
        "songs-text",
    }
    for manifest in manifests:
        selector = manifest.get("spec", {}).get("selector", {})
        assert "team" not in selector.get("matchLabels", selector), "a selector cannot change"


def jobs_of(manifests: list[Manifest]) -> list[Manifest]:
    (config,) = [m for m in manifests if m["metadata"]["name"] == "songs-jobs"]
    return [read(text)[0] for text in config["data"].values()]


def test_of_labels_with_one_name_the_nearest_counts(helm: Helm) -> None:
    values = {
        "commonLabels": {"team": "all", "app.kubernetes.io/part-of": "platform"},
        "podLabels": {"team": "pods"},
        "training": {"podLabels": {"team": "runs"}},
        "serviceAccount": {"labels": {"team": "accounts"}},
        "prometheus": {"serviceMonitor": {"enabled": True, "labels": {"team": "monitors"}}},
    }
    manifests = helm.render("try", values)
    teams = {pod.component: metadata(pod)["labels"]["team"] for pod in pods(manifests)}
    assert teams.pop("training-run") == "runs"
    assert set(teams.values()) == {"pods"}
    of_kind = {m["kind"]: m["metadata"]["labels"]["team"] for m in manifests}
    assert (of_kind["Deployment"], of_kind["ServiceAccount"], of_kind["ServiceMonitor"]) == (
        "all",
        "accounts",
        "monitors",
    )
    assert {m["metadata"]["labels"]["app.kubernetes.io/part-of"] for m in manifests} == {"platform"}


def test_large_numbers_stay_whole(helm: Helm) -> None:
    """User ids of OpenShift have ten digits, which a template language may write as 1e+09."""
    values = {"podSecurityContext": {"runAsUser": 1000650000}}
    assert helm.text("try", values).count("runAsUser: 1000650000") == len(list(pods(helm.render("try", values))))


def test_a_long_override_of_the_name_is_refused(helm: Helm) -> None:
    with pytest.raises(HelmError, match="fullnameOverride, must have at most 30 characters"):
        helm.text("try", {"fullnameOverride": "a" * 31})


def test_service_accounts_are_made_shared_or_yours(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["own-accounts"])
    accounts = named(manifests, "ServiceAccount")
    of = {pod.component: pod.spec["serviceAccountName"] for pod in pods(manifests)}
    assert (of["ingest"], of["pipeline"], of["expiry"], of["rendering"]) == ("jobs", "jobs", "theirs", "lt-rendering")
    assert "expiry" not in accounts
    assert accounts["jobs"]["metadata"]["labels"]["example.org/of"] == "jobs"
    assert {a["metadata"]["annotations"]["example.org/all"] for a in accounts.values()} == {"yes"}
    none = helm.render("try", {"serviceAccount": {"create": False, "name": "one"}})
    assert not named(none, "ServiceAccount")
    assert {pod.spec["serviceAccountName"] for pod in pods(none)} == {"one"}


def test_the_role_is_bound_to_the_account_that_training_has(helm: Helm) -> None:
    values = {"services": {"training": {"serviceAccount": {"name": "launcher"}}}}
    (subject,) = named(helm.render("try", values), "RoleBinding")["training"]["subjects"]
    assert subject["name"] == "launcher"


def test_with_an_identity_no_pod_has_a_key_of_the_store(helm: Helm) -> None:
    for name in ("web-identity", "aws-identity"):
        for pod in pods(helm.render(*VARIANTS[name])):
            assert "s3" not in {volume["name"] for volume in pod.spec["volumes"]}, pod.component
            for container in pod.containers:
                assert not [
                    item for item in env(container) if item.startswith(("LUTHIER_S3_ACCESS", "LUTHIER_S3_SECRET"))
                ]


def test_accounts_are_called_as_the_policies_of_the_store(helm: Helm) -> None:
    """deploy/store names MinIO's policies, and AWS' subjects, by the ServiceAccounts."""
    table = json.loads((CHART.parents[1] / "deploy/store/access.json").read_text())
    opening = [
        p for p in pods(helm.render(*VARIANTS["web-identity"])) if "LUTHIER_STORE" in env(p.spec["containers"][0])
    ]
    assert {pod.spec["serviceAccountName"] for pod in opening} == {f"lt-{name}" for name in table.keys() - {"all"}}


def test_a_token_for_the_sts_is_mounted_where_the_store_is_opened(helm: Helm) -> None:
    for pod in pods(helm.render(*VARIANTS["web-identity"])):
        variables = env(pod.spec["containers"][0])
        (*_, volume) = [v for v in pod.spec["volumes"] if v["name"] == "identity"] or [None]
        assert (volume is not None) == ("LUTHIER_STORE" in variables), pod.component
        if volume:
            (source,) = volume["projected"]["sources"]
            assert source["serviceAccountToken"]["audience"] == "luthier-store"
            assert variables["LUTHIER_S3_IDENTITY_TOKEN"] == "/etc/luthier/identity/token"
            assert variables["LUTHIER_S3_AUTH"] == "web-identity"
            assert variables["LUTHIER_S3_STS"] == "https://minio.example.org:9000"
            assert pod.spec["automountServiceAccountToken"] is (pod.component == "training")


def test_roles_at_aws_are_annotations_of_accounts_that_open_the_store(helm: Helm) -> None:
    accounts = named(helm.render(*VARIANTS["aws-identity"]), "ServiceAccount")
    roles = {
        name: (a["metadata"].get("annotations") or {}).get("eks.amazonaws.com/role-arn") for name, a in accounts.items()
    }
    assert {name: role for name, role in roles.items() if role} == {
        "rendering": "arn:aws:iam::1:role/rendering", "test": "arn:aws:iam::1:role/test",
    }  # fmt: skip
    one = {"store": {"s3": {"endpoint": "a", "auth": "aws", "role": "arn:aws:iam::1:role/all"}},
           "tryout": {"minio": {"enabled": False}}}  # fmt: skip
    accounts = named(helm.render("try", one), "ServiceAccount")
    with_role = {
        n for n, a in accounts.items() if "eks.amazonaws.com/role-arn" in (a["metadata"].get("annotations") or {})
    }
    assert accounts.keys() - with_role == {"migrate", "postgresql"}, "they do not open the store"


def test_the_sts_may_be_reached_by_those_who_open_the_store(helm: Helm) -> None:
    for name, ports in (("web-identity", [{9000}, {9000}]), ("aws-identity", [{443}, {443}, {80}])):
        policy = named(helm.render(*VARIANTS[name]), "NetworkPolicy")["training-run"]
        found = [
            {p["port"] for p in rule["ports"]}
            for rule in policy["spec"]["egress"]
            if {"port": 53, "protocol": "UDP"} not in rule["ports"]
        ]
        assert found == ports, name


def test_an_http_route_leads_to_the_page(helm: Helm) -> None:
    routes = named(helm.render(*VARIANTS["http-route"]), "HTTPRoute")
    assert {name: r["spec"]["rules"][0]["backendRefs"] for name, r in routes.items()} == {
        "curation": [{"name": "lt-curation", "port": 7300}], "inference": [{"name": "lt-inference", "port": 7300}],
    }  # fmt: skip
    assert routes["curation"]["spec"]["hostnames"] == ["c.example.org"]
    assert routes["inference"]["spec"]["rules"][0]["timeouts"] == {"request": "31m"}


def test_a_plain_autoscaler_asks_for_the_metrics_of_the_same_triggers(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["hpa"])
    assert not named(manifests, "ScaledObject")
    plain = named(manifests, "HorizontalPodAutoscaler")["rendering"]["spec"]
    assert plain["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "lt-rendering"}
    targets = {m["external"]["metric"]["name"]: m["external"]["target"] for m in plain["metrics"]}
    assert targets == {
        "lt_rendering_waiting": {"type": "AverageValue", "averageValue": "4"},
        "lt_rendering_at_work": {"type": "AverageValue", "averageValue": "2"},
    }
    assert plain["behavior"]["scaleUp"]["policies"][0]["value"] == 4
    assert plain["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 120


def test_prometheus_adapter_has_a_rule_for_each_metric(helm: Helm) -> None:
    manifests = helm.render(*VARIANTS["hpa"])
    rules = yaml.safe_load(named(manifests, "ConfigMap")["adapter-rules"]["data"]["config.yaml"])["externalRules"]
    asked = {
        m["external"]["metric"]["name"]
        for plain in named(manifests, "HorizontalPodAutoscaler").values()
        for m in plain["spec"]["metrics"]
    }
    assert {rule["name"]["as"] for rule in rules} == asked
    (at_work,) = [rule for rule in rules if rule["name"]["as"] == "lt_rendering_at_work"]
    assert at_work["seriesQuery"] == 'luthier_work_in_flight{service="luthier.rendering.v1.RenderingService",}'
    assert at_work["metricsQuery"].endswith(" or vector(0)"), "at zero Pods nothing exports the series"


def test_a_deployment_that_is_scaled_plainly_has_no_number_of_replicas(helm: Helm) -> None:
    values = {
        "services": {
            "analysis": {"replicas": 3},
            "inference": {"replicas": 3, "autoscaling": {"enabled": True, "kind": "hpa"}},
        }
    }
    deployments = named(helm.render("try", values), "Deployment")
    assert "replicas" not in deployments["inference"]["spec"]


def test_the_notes_tell_the_next_commands(helm: Helm) -> None:
    profile, values = str(CHART / "values-try.yaml"), {"fullnameOverride": "songs", **VARIANTS["hpa"][1]}
    output = helm.run(
        "install", "lt", str(CHART), "-n", "music", "--dry-run=client", "-f", profile, "-f", "-", text=values
    )
    _, _, notes = output.partition("NOTES:")
    for command in (
        "helm -n music test lt --logs",
        "deployment/songs-curation 7300:7300",
        "luthier submit --namespace music --release songs",
        "get configmap songs-adapter-rules -o jsonpath='{.data.config\\.yaml}'",
    ):
        assert command in notes
