"""The chart is pushed to an OCI registry by one command, and installs from there as it is here."""

import os
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, Helm
from tests.support.services import ROOT, require_tool
from tests.support.stores import free_port

READY_S = 30.0


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of distribution (CNCF) on loopback: host:port."""
    folder, address = tmp_path_factory.mktemp("registry"), f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: {address}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([require_tool("registry"), "serve", config], stdout=log, stderr=log)
    try:
        wait_ready(f"http://{address}/v2/")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_ready(url: str) -> None:
    pause = threading.Event()
    for _ in range(int(READY_S / 0.1)):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.URLError:
            pause.wait(0.1)
    raise AssertionError(f"{url} does not answer")


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
