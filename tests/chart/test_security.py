"""Every Pod conforms to Pod Security "restricted" and to stricter rules of ours; no manifest holds a secret.

The rules are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted.
"""

import re
from typing import Any

from tests.chart.rendering import CHART, Manifest, Pod, env, named, pods

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECRET = re.compile(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY|API_KEY|DATABASE_URL)")


def test_pods_conform_to_restricted(variant: list[Manifest]) -> None:
    for pod in pods(variant):
        assert list(faults_of(pod)) == [], pod.component


def faults_of(pod: Pod) -> list[str]:
    """Violations of "restricted" in this Pod."""
    spec, security = pod.spec, pod.spec["securityContext"]
    faults = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers") if spec.get(key)]
    faults += [f"volume {v['name']}" for v in spec["volumes"] if set(v) - {"name"} - VOLUMES]
    faults += [f"{key} in the Pod" for key in ("sysctls", "seLinuxOptions", "windowsOptions") if key in security]
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        faults.append("may run as root")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        faults.append("seccompProfile")
    for container in pod.containers:
        faults += [f"{container['name']}: {fault}" for fault in faults_of_container(container)]
    return faults


def faults_of_container(container: dict[str, Any]) -> list[str]:
    security = container["securityContext"]
    wrong = {
        "allowPrivilegeEscalation": security.get("allowPrivilegeEscalation") is not False,
        "capabilities": security.get("capabilities") != {"drop": ["ALL"]},
        "another user": bool({"runAsUser", "runAsNonRoot", "runAsGroup", "seccompProfile"} & set(security)),
        "privileged": security.get("privileged", False),
        "procMount": "procMount" in security,
        "hostPort": any("hostPort" in port for port in container.get("ports", [])),
        "host in a probe or hook": '"host"' in repr(container).replace("'", '"'),
    }
    return [fault for fault, found in wrong.items() if found]


def test_the_root_is_read_only_and_writable_volumes_are_limited(variant: list[Manifest]) -> None:
    for pod in pods(variant):
        assert all(c["securityContext"]["readOnlyRootFilesystem"] is True for c in pod.containers), pod.component
        assert all(v["emptyDir"].get("sizeLimit") for v in pod.spec["volumes"] if "emptyDir" in v), pod.component
        assert any(m["mountPath"] == "/tmp" for c in pod.containers for m in c["volumeMounts"]), pod.component


def test_memory_is_limited_and_cpu_is_only_requested(variant: list[Manifest]) -> None:
    for pod in pods(variant):
        for container in pod.containers:
            resources = container["resources"]
            assert set(resources["requests"]) >= {"cpu", "memory"}, pod.component
            assert "memory" in resources["limits"], pod.component
            assert "cpu" not in resources["limits"], "a CPU limit would throttle although the node has idle cores"


def test_only_training_has_a_token_for_kubernetes(variant: list[Manifest]) -> None:
    with_token = {pod.component for pod in pods(variant) if pod.spec["automountServiceAccountToken"]}
    assert with_token == {"training"}
    accounts = named(variant, "ServiceAccount")
    used = {pod.spec["serviceAccountName"].removeprefix("lt-") for pod in pods(variant)}
    assert used - {"theirs"} == set(accounts)
    assert not any(account["automountServiceAccountToken"] for account in accounts.values())


def test_training_may_make_jobs_in_its_namespace_and_nothing_else(variant: list[Manifest]) -> None:
    assert not any(m["kind"].startswith("ClusterRole") for m in variant)
    roles, bindings = named(variant, "Role"), named(variant, "RoleBinding")
    assert roles["training"]["rules"] == [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "create", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["lt-jobs"], "verbs": ["get"]},
    ]
    assert list(roles) == list(bindings) == ["training"]
    assert bindings["training"]["subjects"] == [{"kind": "ServiceAccount", "name": "lt-training", "namespace": "music"}]


def test_no_secret_is_rendered(variant: list[Manifest]) -> None:
    assert not named(variant, "Secret")
    for pod in pods(variant):
        for container in pod.containers:
            assert "envFrom" not in container
            assert not [item for item in container.get("env", []) if "secretKeyRef" in item.get("valueFrom", {})]
            for name, value in env(container).items():
                if SECRET.search(name):
                    assert value.startswith(("/etc/luthier/", "sqlite:////data/")), f"{pod.component} {name}"


def test_no_template_makes_a_secret() -> None:
    for template in CHART.rglob("templates/**/*"):
        if template.is_file():
            assert not re.search(
                r"\b(rand\w+|genPrivateKey|genCA|genSigned\w+|htpasswd|derivePassword|b64enc)\b", template.read_text()
            )


def test_secrets_are_readable_by_their_group_only(variant: list[Manifest]) -> None:
    for pod in pods(variant):
        modes = [v["secret"].get("defaultMode") for v in pod.spec["volumes"] if "secret" in v]
        assert all(mode == 0o440 for mode in modes), pod.component
