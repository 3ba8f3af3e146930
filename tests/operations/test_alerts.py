"""Alert rules: Prometheus takes them, each fires when it should and only then, and the operators' page explains it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.operations.queries import ALERTS, ROOT, Promtool, alert_rules, left_side

CASES = Path(__file__).with_name("alerts_test.yaml")
NAMES = [rule["alert"] for rule in alert_rules()]


def cases(alert: str) -> list[bool]:
    """For every moment at which the unit tests look at an alert: whether it fires."""
    tests = yaml.safe_load(CASES.read_text())["tests"]
    looks = [look for test in tests for look in test["alert_rule_test"]]
    return [bool(look.get("exp_alerts")) for look in looks if look["alertname"] == alert]


def headings() -> set[str]:
    """The anchors of the operators' page."""
    titles = re.findall(r"^#+ (.+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_prometheus_loads_the_rules(promtool: Promtool) -> None:
    checked = promtool("check", "rules", ALERTS)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(NAMES)} rules found" in checked.stdout


def test_alerts_fire_when_they_should_and_only_then(promtool: Promtool) -> None:
    tested = promtool("test", "rules", CASES)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_unit_tests_can_fail(promtool: Promtool, tmp_path: Path) -> None:
    """promtool reads another file's rules: with thresholds out of reach nothing fires, which the cases must notice."""
    rules = ALERTS.read_text().replace("> 0.05", "> 5")
    (tmp_path / "alerts.yaml").write_text(rules)
    (tmp_path / "cases.yaml").write_text(CASES.read_text().replace("../../charts/luthier/files/", ""))

    assert promtool("test", "rules", tmp_path / "cases.yaml").returncode != 0


@pytest.mark.parametrize("alert", NAMES)
def test_every_alert_is_seen_firing_and_silent(alert: str) -> None:
    assert set(cases(alert)) == {True, False}


@pytest.mark.parametrize("rule", alert_rules(), ids=NAMES)
def test_every_alert_tells_what_to_do(rule: dict[str, Any]) -> None:
    page, _, section = rule["annotations"]["runbook"].partition("#")

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    assert page == "docs/operations.md"
    assert section == rule["alert"].lower()
    assert section in headings()


@pytest.mark.parametrize("rule", alert_rules(), ids=NAMES)
def test_what_an_alert_compares_can_be_asked_for_alone(rule: dict[str, Any]) -> None:
    assert left_side(rule["expr"])
