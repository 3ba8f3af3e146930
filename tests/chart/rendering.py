"""Manifests as Helm renders them, and how tests find things in them."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts/luthier"
RELEASE, NAMESPACE = "lt", "music"
Manifest = dict[str, Any]


class HelmError(Exception):
    """Error output of Helm."""


@dataclass(frozen=True)
class Helm:
    """Renders the chart, each combination of values once."""

    program: Path
    rendered: dict[str, str] = field(default_factory=dict)

    def text(self, profile: str = "try", values: Mapping[str, Any] | None = None, release: str = RELEASE) -> str:
        """Output of `helm template` for a profile with further values. HelmError when Helm refuses them."""
        key = json.dumps([profile, values, release])
        if key not in self.rendered:
            files = ["-f", str(CHART / f"values-{profile}.yaml")] if profile else []
            self.rendered[key] = self.run(
                "template", release, str(CHART), "-n", NAMESPACE, *files, "-f", "-", text=values
            )
        return self.rendered[key]

    def render(self, profile: str = "try", values: Mapping[str, Any] | None = None) -> list[Manifest]:
        """The same, parsed."""
        return read(self.text(profile, values))

    def run(self, *arguments: str, text: Mapping[str, Any] | None = None) -> str:
        """Output of a Helm command; `text` are values for its standard input."""
        done = subprocess.run(
            [self.program, *arguments],
            input=json.dumps(text or {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise HelmError(done.stderr)
        return done.stdout


@cache
def read(text: str) -> list[Manifest]:
    """The manifests of a rendered text. They are cached: do not change them."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [manifest for manifest in yaml.load_all(text, Loader=loader) if manifest]


def named(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Manifests of a kind by name, without the release."""
    found = (m for m in manifests if m["kind"] == kind)
    return {m["metadata"]["name"].removeprefix(f"{RELEASE}-"): m for m in found}


def env(container: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a container by name."""
    return {item["name"]: item.get("value", "") for item in container.get("env", [])}


@dataclass(frozen=True)
class Pod:
    """A Pod that a manifest creates."""

    component: str
    owner: Manifest
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All containers, those of initialisation first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Numbers of its ports by name."""
        return {p["name"]: p["containerPort"] for c in self.containers for p in c.get("ports", [])}

    @property
    def gpus(self) -> int:
        """GPUs that it asks for."""
        return sum(int(c["resources"].get("limits", {}).get("nvidia.com/gpu", 0)) for c in self.containers)


def jobs(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The Jobs of the jobs ConfigMap by key."""
    return {key: read(text)[0] for key, text in named(manifests, "ConfigMap")["jobs"]["data"].items()}


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """Every Pod, including those of the Jobs in the jobs ConfigMap."""
    for owner in [*manifests, *jobs(manifests).values()]:
        if owner["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = owner["spec"]["template"]
            yield _pod(owner, template["metadata"], template["spec"])
        elif owner["kind"] == "CronJob":
            template = owner["spec"]["jobTemplate"]["spec"]["template"]
            yield _pod(owner, template["metadata"], template["spec"])
        elif owner["kind"] == "Pod":
            yield _pod(owner, owner["metadata"], owner["spec"])


def _pod(owner: Manifest, metadata: Manifest, spec: Manifest) -> Pod:
    return Pod(metadata["labels"]["app.kubernetes.io/component"], owner, metadata["labels"], spec)
