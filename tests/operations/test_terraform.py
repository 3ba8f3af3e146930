"""Terraform: valid against the provider's own schema, and its node groups are what the chart's node pools ask for.

Needs terraform, and the AWS provider from the registry or from a local mirror (TERRAFORM_PLUGINS, or where mirrors are
usually kept); no account, and no network otherwise.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.operations.queries import ROOT

FOLDER = ROOT / "deploy/terraform"
CHART = ROOT / "charts/luthier/values-production.yaml"
MIRRORS = ("/usr/share/terraform", "/usr/local/share/terraform", "/opt")
Terraform = Callable[..., subprocess.CompletedProcess[str]]


def mirror() -> list[str]:
    """The option that names a local mirror of the provider, if there is one."""
    named = os.environ.get("TERRAFORM_PLUGINS")
    roots = [Path(named)] if named else [root for place in MIRRORS for root in Path(place).glob("*")]
    return [f"-plugin-dir={root}" for root in roots if any(root.glob("registry.terraform.io/hashicorp/aws/5.*"))][:1]


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Runs terraform in a copy of the folder that knows the provider."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is missing: deploy/terraform is not checked")
    folder = tmp_path_factory.mktemp("deploy") / "terraform"
    folder.mkdir()
    shutil.copytree(FOLDER.parent / "store", folder.parent / "store")
    for path in (*FOLDER.glob("*.tf"), CHART):
        shutil.copy(path, folder)
    (folder / "tests").mkdir()
    shutil.copy(Path(__file__).with_name("pools.tftest.hcl"), folder / "tests")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "AWS_"))}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["terraform", *words, "-no-color"]
        return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)

    begun = run("init", "-backend=false", "-input=false", *mirror())
    assert "configuration must be valid" not in begun.stderr, begun.stderr
    if begun.returncode:
        pytest.skip(f"the AWS provider cannot be had, deploy/terraform is not checked: {begun.stderr.strip()[:300]}")
    return run


def test_it_is_formatted() -> None:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is missing")
    checked = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", FOLDER, Path(__file__).parent],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow  # the plan below says the same with more words, seconds later
def test_it_is_valid(terraform: Terraform) -> None:
    checked = terraform("validate")

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_plan_has_the_pools_of_the_chart(terraform: Terraform) -> None:
    tested = terraform("test")

    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "0 failed" in tested.stdout


def test_the_chart_names_pools_that_are_worth_comparing() -> None:
    pools = {name: pool for name, pool in yaml.safe_load(CHART.read_text())["nodePools"].items() if pool}

    assert set(pools) == {"default", "render", "gpu-inference", "gpu-training"}
    assert all(pool["selector"] for pool in pools.values())
