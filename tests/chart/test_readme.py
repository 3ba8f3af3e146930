"""Pages of chart and deploy: every value is documented once, UPGRADING has the present version, links have targets."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART

ROOT = CHART.parents[1]
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DOCUMENTED_ELSEWHERE = {"defaults", "llm.vllm.autoscaling"}
DOCUMENTED_WHOLE = {"resources", "peers", "secretFiles", "env", "texts"}
PAGES = [
    ROOT / "docs/operations.md",
    *(ROOT / "charts").rglob("*.md"),
    *(ROOT / "deploy").glob("README.md"),
    *(ROOT / "deploy").glob("*/README.md"),
]


def leaves(node: dict[str, Any], path: str) -> Iterator[str]:
    """Dotted names of all values of the schema; entries of free maps as <service>, <pool>."""
    kind = node.get("$ref", "").removeprefix("#/$defs/")
    node = SCHEMA["$defs"][kind] if kind else node
    free = node.get("additionalProperties")
    if path in DOCUMENTED_ELSEWHERE or kind in DOCUMENTED_WHOLE:
        yield path
    elif isinstance(free, dict) and path in ("services", "nodePools"):
        yield from leaves(free, f"{path}.<{path.removeprefix('node').lower().removesuffix('s')}>")
    elif "properties" in node:
        for name, child in node["properties"].items():
            yield from leaves(child, f"{path}.{name}" if path else name)
    elif path != "global":
        yield path


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_value_is_documented_once() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", (CHART / "README.md").read_text(), re.MULTILINE)
    documented = Counter(name for row in rows for name in re.findall(r"`([^`]+)`", row))
    values = set(leaves(SCHEMA, ""))
    assert {name for name in documented if name.split(".")[0] in SCHEMA["properties"]} == values
    assert {name for name, times in documented.items() if times > 1} == set()


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
