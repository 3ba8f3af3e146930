"""Dashboards: generated, in the chart and in deploy/grafana alike, and such that any Grafana can load them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.operations.queries import DASHBOARDS, ROOT, dashboards

GRAFANA = ROOT / "deploy/grafana"
FOUND = dashboards()


def test_there_is_one_for_the_platform_the_pipeline_and_inference() -> None:
    assert sorted(FOUND) == ["luthier-inference.json", "luthier-pipeline.json", "luthier-platform.json"]


def test_they_are_what_the_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "dashboards.py", tmp_path], check=True)

    for name in FOUND:
        assert (tmp_path / name).read_text() == (DASHBOARDS / name).read_text(), f"{name}: run dashboards.py"


@pytest.mark.parametrize("name", FOUND)
def test_the_chart_and_the_folder_have_the_same_file(name: str) -> None:
    assert (GRAFANA / name).resolve() == (DASHBOARDS / name).resolve()


@pytest.mark.parametrize(("name", "dashboard"), FOUND.items(), ids=FOUND)
def test_a_dashboard_names_no_installation(name: str, dashboard: dict[str, Any]) -> None:
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    used |= {target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel["targets"]}

    assert dashboard["uid"] == name.removesuffix(".json")
    assert "id" not in dashboard
    assert used == {"${datasource}"}
    assert dashboard["templating"]["list"][0]["type"] == "datasource"


@pytest.mark.parametrize("dashboard", FOUND.values(), ids=FOUND)
def test_every_variable_of_a_query_is_one_of_the_dashboard(dashboard: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])

    assert set(re.findall(r"\$(\w+)", asked)) <= variables


@pytest.mark.parametrize("dashboard", FOUND.values(), ids=FOUND)
def test_panels_have_titles_units_and_places_of_their_own(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
