"""The chart is pushed to an OCI registry by one command, and installs from there as it is here."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, Helm
from tests.support.registries import serving_registry
from tests.support.services import ROOT


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port."""
    with serving_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def test_the_pushed_chart_renders_as_the_one_that_was_pushed(registry: str, helm: Helm, tmp_path: Path) -> None:
    chart = f"oci://{registry}/luthier/charts/luthier"
    variables = {"HELM": str(helm.program), "REGISTRY": f"{registry}/luthier", "PLAIN_HTTP": "1"}
    done = subprocess.run(
        ["make", "publish-chart", *(f"{name}={value}" for name, value in variables.items())],
        cwd=ROOT, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pulled = helm.run(
        "template", RELEASE, chart, "--version", "0.1.0", "--plain-http", "-n", NAMESPACE,
        "-f", str(CHART / "values-try.yaml"), "-f", "-",
    )  # fmt: skip
    assert pulled == helm.text("try", {})
