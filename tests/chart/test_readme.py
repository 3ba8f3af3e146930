"""The chart's README documents every value, once."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.chart.rendering import CHART

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
AS_ELSEWHERE = {"defaults", "llm.vllm.autoscaling"}
WHOLE = {"resources", "peers", "secretFiles", "env", "texts"}


def leaves(node: dict[str, Any], path: str) -> Iterator[str]:
    """Dotted names of all values that the schema knows; entries of free maps as <service>, <pool>."""
    kind = node.get("$ref", "").removeprefix("#/$defs/")
    node = SCHEMA["$defs"][kind] if kind else node
    free = node.get("additionalProperties")
    if path in AS_ELSEWHERE or kind in WHOLE:
        yield path
    elif isinstance(free, dict) and path in ("services", "nodePools"):
        yield from leaves(free, f"{path}.<{path.removeprefix('node').lower().removesuffix('s')}>")
    elif "properties" in node:
        for name, child in node["properties"].items():
            yield from leaves(child, f"{path}.{name}" if path else name)
    elif path != "global":
        yield path


def test_every_value_is_documented_once() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", (CHART / "README.md").read_text(), re.MULTILINE)
    documented = Counter(name for row in rows for name in re.findall(r"`([^`]+)`", row))
    values = set(leaves(SCHEMA, ""))
    assert {name for name in documented if name.split(".")[0] in SCHEMA["properties"]} == values
    assert {name for name, times in documented.items() if times > 1} == set()
