"""The operators' page: its commands, names and values are those of the code and the chart."""

import re
import shlex
from typing import Any

import pytest
import yaml

from luthier_pipeline.cli import load
from tests.operations.queries import ROOT

PAGE = (ROOT / "docs/operations.md").read_text()
VALUES = yaml.safe_load((ROOT / "charts/luthier/values.yaml").read_text())
SCHEMA = (ROOT / "charts/luthier/values.schema.json").read_text()
JOBS = {"ingest", "pipeline", "training-run"}  # Pods of Jobs are components too
BLOCKS = "\n".join(re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"(?:-- |^)luthier (\w.*?)(?:\s+#.*)?$", BLOCKS, re.MULTILINE)
MENTIONED = re.findall(r"`luthier (\w[^`]*)`", PAGE)


def known(path: str) -> bool:
    """Whether values.yaml has a dotted path (SERVICE stands for any), or the schema an optional key of that name."""
    found: dict[str, Any] = VALUES
    *parents, last = path.replace("SERVICE", "inference").split(".")
    for key in parents:
        found = found[key]
    return last in found or last in VALUES["defaults"] or f'"{last}":' in SCHEMA


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_luthier_parses(command: str) -> None:
    name, *arguments = [re.sub(r"^[A-Z]$", "1", word) for word in shlex.split(command)]

    assert load(name).make_context(name, arguments)


@pytest.mark.parametrize("command", MENTIONED)
def test_a_command_that_is_mentioned_has_these_options(command: str) -> None:
    name, *rest = command.split()
    options = {option for parameter in load(name).params for option in parameter.opts}

    assert options.issuperset(option for option in rest if option.startswith("--"))


def test_workloads_are_the_chart_s() -> None:
    named = set(re.findall(r"(?:deployment/|scaledobject )luthier-([a-z-]+)", PAGE))

    assert {"rendering", "curation", "monitor"} <= named <= set(VALUES["services"])


def test_components_are_the_chart_s() -> None:
    single = set(re.findall(r"component=([a-z-]+)", PAGE))
    several = {name for names in re.findall(r"component in \(([^)]*)\)", PAGE) for name in names.split(",")}

    assert single | several <= set(VALUES["services"]) | JOBS


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:services|prometheus|dashboards|auth|autoscaling)(?:\.\w+)+)`", PAGE)))
)
def test_a_value_is_one_of_the_chart(path: str) -> None:
    if path.startswith("autoscaling."):
        path = f"services.rendering.{path}"

    assert known(path)


def test_secrets_are_those_of_the_production_values() -> None:
    production = (ROOT / "charts/luthier/values-production.yaml").read_text()
    named = set(re.findall(r"secret(?: generic)? (luthier-[a-z0-9-]+)", PAGE))

    assert len(named) >= 4
    assert all(name in production for name in named)
