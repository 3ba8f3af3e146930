"""Settings of the cluster's tests, from environment variables. A missing one skips the tests that need it."""

import os
import shlex
import shutil
from dataclasses import dataclass

import pytest

SERVICES = ("rendering", "analysis", "enrichment", "prompting", "curation", "training", "inference", "evaluation")
THIRD_PARTY = ("minio", "postgresql", "prometheus", "collector")


@dataclass(frozen=True)
class Settings:
    """`image_load`, `node_fail`, `node_heal` are commands as lists of words; empty = not set."""

    registry: str
    tag: str
    image_load: tuple[str, ...]
    node_fail: tuple[str, ...]
    node_heal: tuple[str, ...]

    def image(self, name: str) -> str:
        """The full name of an image of the project."""
        return f"{self.registry}/{name}:{self.tag}"


def from_environment() -> Settings:
    """The settings. Skips everything where there is no cluster."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set: no cluster to test on")
    for program in ("kubectl", "helm"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not on the PATH")
    words = {name: tuple(shlex.split(os.environ.get(name, ""))) for name in ("IMAGE_LOAD", "NODE_FAIL", "NODE_HEAL")}
    return Settings(
        os.environ.get("REGISTRY", "luthier.local"),
        os.environ.get("TAG", "0.1.0"),
        words["IMAGE_LOAD"],
        words["NODE_FAIL"],
        words["NODE_HEAL"],
    )
