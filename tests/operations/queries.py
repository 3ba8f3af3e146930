"""Every query of dashboards and alerts, for the static tests and for the one on a running cluster."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Promtool = Callable[..., subprocess.CompletedProcess[str]]
"""Runs promtool with arguments."""
ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "charts/luthier/files/alerts.yaml"
DASHBOARDS = ROOT / "charts/luthier/files/dashboards"
COMPARED = re.compile(r"^(?P<left>.*\S)\s*(?:>=|<=|==|!=|>|<)\s*(?P<bound>-?[0-9.]+)\s*$", re.DOTALL)


def alert_rules() -> list[dict[str, Any]]:
    """The alert rules of the chart."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def left_side(expr: str) -> str:
    """An alert's expression without the comparison at its end. Raises ValueError where there is none."""
    found = COMPARED.match(expr)
    if found is None:
        raise ValueError(f"does not end with a comparison with a number: {expr}")
    return found["left"].strip()


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panel_queries(window: str) -> Iterator[tuple[str, str]]:
    """(dashboard: panel, PromQL) with the variables filled in: everything, and `window` for the zoom's interval."""
    for name, dashboard in dashboards().items():
        chosen = [variable["name"] for variable in dashboard["templating"]["list"]]
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", window)
                yield f"{name}: {panel['title']}", re.sub(rf"\$({'|'.join(chosen)})\b", ".*", expr)


def queries(window: str = "5m") -> Iterator[tuple[str, str]]:
    """(where, PromQL) of all dashboards, and of all alerts without their comparison: each must return a series.

    They do on an installation that has been scraped for a window, has run a collection within the hour and generated
    within the window (a rate needs two scrapes); render workers may be at zero.
    """
    yield from panel_queries(window)
    for rule in alert_rules():
        yield f"alerts.yaml: {rule['alert']}", left_side(rule["expr"])
