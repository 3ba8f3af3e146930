"""Secret texts are in Secrets only, and every ServiceAccount has exactly the permissions that are meant."""

import json
from typing import Any

from tests.cluster.kube import name_of, run
from tests.cluster.release import Release

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
RESOURCES = (
    "pods",
    "secrets",
    "configmaps",
    "configmaps/{release}-jobs",
    "services",
    "jobs.batch",
    "deployments.apps",
    "roles.rbac.authorization.k8s.io",
    "nodes",
)
PERMITTED = {
    ("training", "jobs.batch"): {"get", "list", "watch", "create", "delete"},
    ("training", "pods"): {"get", "list", "watch"},
    ("training", "configmaps/{release}-jobs"): {"get"},
}


def test_manifests_hold_no_secret(installed: Release, secret_texts: list[str]) -> None:
    manifests = run("helm", "get", "all", installed.name, "-n", installed.kube.namespace)
    objects = json.dumps(
        [installed.kube.get(kind) for kind in ("pods", "deployments", "jobs", "configmaps", "statefulsets")]
    )
    assert not [text for text in secret_texts if text in manifests or text in objects]


def test_logs_and_environments_hold_no_secret(installed: Release, secret_texts: list[str]) -> None:
    for pod in installed.kube.items("pods", f"app.kubernetes.io/instance={installed.name}"):
        logs = installed.kube("logs", name_of(pod), "--all-containers", check=False)
        assert not [text for text in secret_texts if text in logs], name_of(pod)
        stays = "job-name" not in pod["metadata"]["labels"] and "deletionTimestamp" not in pod["metadata"]
        if stays and pod["status"]["phase"] == "Running":
            environment = installed.kube("exec", name_of(pod), "--", "env", check=False)
            assert environment
            assert not [text for text in secret_texts if text in environment], name_of(pod)


def test_service_accounts_have_exactly_these_permissions(installed: Release, figures: dict[str, Any]) -> None:
    table = {}
    for account in installed.kube.items("serviceaccounts"):
        name = name_of(account)
        component = name.removeprefix(f"{installed.name}-")
        for resource in RESOURCES:
            allowed = {verb for verb in VERBS if may(installed, name, verb, resource.format(release=installed.name))}
            if allowed:
                table[f"{component} {resource}"] = sorted(allowed)
            assert allowed == PERMITTED.get((component, resource), set()), (component, resource)
    figures["what ServiceAccounts may do (kubectl auth can-i)"] = table


def may(release: Release, account: str, verb: str, resource: str) -> bool:
    who = f"system:serviceaccount:{release.kube.namespace}:{account}"
    return release.kube("auth", "can-i", verb, resource, f"--as={who}", check=False).strip() == "yes"


def test_only_training_mounts_a_token(installed: Release) -> None:
    for pod in installed.kube.items("pods", f"app.kubernetes.io/instance={installed.name}"):
        mounts = {m["mountPath"] for c in pod["spec"]["containers"] for m in c.get("volumeMounts", [])}
        token = "/var/run/secrets/kubernetes.io/serviceaccount" in mounts
        assert token == (pod["metadata"]["labels"]["app.kubernetes.io/component"] == "training"), name_of(pod)
