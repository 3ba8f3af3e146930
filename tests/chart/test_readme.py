"""Pages of chart and deploy: every value is in a table, UPGRADING has the present version, links have targets."""

import re
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART
from tests.chart.values_tables import README, Values

ROOT = CHART.parents[1]
PAGES = [
    ROOT / "docs/operations.md",
    *(ROOT / "charts").rglob("*.md"),
    *(ROOT / "deploy").glob("README.md"),
    *(ROOT / "deploy").glob("*/README.md"),
]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_value_is_documented_once() -> None:
    page, tables = README.read_text(), Values()
    assert tables.page(page) == page, "run tests/.venv/bin/python -m tests.chart.values_tables"
    assert [row.name for row in tables.rows() if page.count(f"| `{row.name}` |") != 1] == []


def test_the_newest_entry_of_upgrading_is_the_chart() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    _, _, versions = (CHART / "UPGRADING.md").read_text().partition("\n## Versions\n")
    newest = re.search(r"^\| (\d\S*) \| (\S+) \|", versions, re.MULTILINE)
    assert newest
    assert newest.groups() == (chart["version"], chart["appVersion"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
