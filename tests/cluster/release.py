"""A release of the chart on the cluster, as a platform engineer would install it for trying out."""

import base64
import copy
import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kube import Kube, KubeError, name_of, run
from tests.cluster.settings import Settings
from tests.system import LUTHIER

CHART = Path(__file__).parents[2] / "charts/luthier"
SCRIPTS = {name: Path(__file__).with_name(name).read_text() for name in ("load.py", "ask.py")}
PORT = 7100
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass
class Release:
    """`values` are laid over values-try.yaml of the chart in `chart`, later ones over earlier ones.

    `command`: the `luthier` to submit with; that of the release itself, as UPGRADING says.
    """

    name: str
    kube: Kube
    settings: Settings
    values: dict[str, Any] = field(default_factory=dict)
    chart: Path = CHART
    command: Path = LUTHIER

    def address(self, service: str) -> str:
        """host:port of a service, from anywhere in the cluster."""
        return f"{self.name}-{service}.{self.kube.namespace}.svc:{PORT}"

    def selector(self, component: str) -> str:
        """Labels of the Pods of a component."""
        return f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"

    def secrets(self) -> list[str]:
        """Creates the platform engineer's Secrets unless they exist; returns their texts, to search for them."""
        if "luthier-s3" not in map(name_of, self.kube.items("secrets")):
            store_key, store_secret, password = (secrets.token_hex(16) for _ in range(3))
            host = f"{self.name}-postgresql.{self.kube.namespace}.svc:5432"
            url = f"postgresql+psycopg://luthier:{password}@{host}/luthier"
            self.kube.apply(
                secret("luthier-s3", {"access-key": store_key, "secret-key": store_secret}),
                secret("luthier-database", {"url": url, "password": password}),
            )
        found = {**self.kube.get("secret", "luthier-s3")["data"], **self.kube.get("secret", "luthier-database")["data"]}
        return [base64.b64decode(found[key]).decode() for key in ("access-key", "secret-key", "password")]

    def helm(self, action: str, *more: str, values: dict[str, Any] | None = None, timeout_s: float = 600) -> str:
        """`helm install|upgrade|template …` with values-try.yaml and the values of this release."""
        chart, tryout = str(self.chart), str(self.chart / "values-try.yaml")
        return run(
            "helm", action, self.name, chart, "-n", self.kube.namespace, "-f", tryout, "-f", "-", *more,
            text=json.dumps(merged(self.values, values or {})), timeout_s=timeout_s,
        )  # fmt: skip

    def job_template(self, key: str) -> dict[str, Any]:
        """A Job as the chart renders it for the pipeline or for training."""
        return dict(yaml.safe_load(self.kube.get("configmap", f"{self.name}-jobs")["data"][f"{key}.yaml"]))

    def pipeline_pod(self, name: str, command: list[str]) -> dict[str, Any]:
        """A Pod of the pipeline (its environment, secrets and network) that runs another command."""
        template = copy.deepcopy(self.job_template("shards")["spec"]["template"])
        spec = template["spec"]
        container = spec["containers"][0]
        container.pop("args", None)
        container |= {"command": command}
        container["volumeMounts"] = [*container.get("volumeMounts", []), {"name": "scripts", "mountPath": "/scripts"}]
        spec["volumes"] = [*spec.get("volumes", []), {"name": "scripts", "configMap": {"name": "scripts"}}]
        spec["restartPolicy"] = "Never"
        labels = template["metadata"]["labels"]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}

    def luthier(self, *arguments: str, timeout_s: float = 600) -> dict[str, Any]:
        """`luthier … --json` in the monitor's Pod, which reaches every service and the store."""
        out = self.kube(
            "exec", f"deploy/{self.name}-monitor", "--", "luthier", *arguments, "--json", timeout_s=timeout_s
        )
        return dict(json.loads(out.strip().splitlines()[-1]))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """The same in the background; killing it does not stop what it started in the cluster."""
        command = ["kubectl", "-n", self.kube.namespace, "exec", f"deploy/{self.name}-monitor", "--", "luthier"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*command, *arguments, "--json"], text=True, **pipes)  # type: ignore[call-overload]

    def helm_test(self) -> str:
        """`helm test`, with what it says."""
        return run("helm", "test", self.name, "-n", self.kube.namespace, "--timeout", "10m", timeout_s=620)


def caller_pod(name: str, image: str, command: list[str], labels: dict[str, str] | None = None) -> dict[str, Any]:
    """A Pod of another team: an image with grpcio and the stubs, and no secret of Luthier."""
    container = {
        "name": "caller",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": RESTRICTED,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "containers": [container],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 130,
        "automountServiceAccountToken": False,
        "volumes": [{"name": "scripts", "configMap": {"name": "scripts"}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def scripts() -> dict[str, Any]:
    """The ConfigMap with the scripts that Pods of the tests run."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts"}, "data": SCRIPTS}


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two trees of values, the second over the first."""
    both = dict(under)
    for key, value in over.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def namespace(name: str, **labels: str) -> None:
    """A namespace that enforces Pod Security `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", **labels}
    item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    run("kubectl", "apply", "-f", "-", text=json.dumps(item))


def gone(name: str) -> None:
    """Deletes a namespace and waits for it: its Pods may take all of their time to end."""
    run("kubectl", "delete", "namespace", name, "--ignore-not-found", "--timeout=600s", timeout_s=620)


def everything(kube: Kube) -> Iterator[str]:
    """kind/name of every object in the namespace."""
    kinds = run("kubectl", "api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    for kind in kinds:
        if not kind.startswith(("events", "events.")):
            try:
                yield from (f"{kind}/{name_of(item)}" for item in kube.items(kind))
            except KubeError:
                continue  # an API that cannot be listed without more arguments


def secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    """A Secret of these texts."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
