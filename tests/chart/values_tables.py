"""Tables of the chart's values in luthier/README.md, from the schema's descriptions and the defaults in values.yaml.

`tests/.venv/bin/python -m tests.chart.values_tables` writes them anew, each between `<!-- values PREFIX … -->` and
`<!-- /values -->`: the values below these prefixes. helm-docs, the usual tool, reads values.yaml alone and has neither
the schema's descriptions nor the values that a workload may have and values.yaml does not name.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.rendering import CHART

README = CHART / "README.md"
BLOCK = re.compile(r"(<!-- values ((?:[^-]|-(?!->))*) -->\n).*?(\n<!-- /values -->)", re.DOTALL)
SERVICE, POOL, WORKLOAD = "services.<service>", "nodePools.<pool>", "<workload>"
WHOLE = frozenset({"resources", "peers", "secretFiles", "env", "texts", "labels"})
"""Definitions that are one value, not several."""
Node = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """One row: dotted name, the node of the schema with its definition, and what describes it."""

    name: str
    node: Node
    description: str


class Values:
    """The values of a chart's schema and their defaults."""

    def __init__(self, chart: Path = CHART) -> None:
        self.schema: Node = json.loads((chart / "values.schema.json").read_text())
        self.defaults: Node = yaml.safe_load((chart / "values.yaml").read_text())

    def resolved(self, node: Node) -> Node:
        """A node with what it refers to; its own keys count, properties of both are there."""
        while "$ref" in node:
            target = self.schema
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            own = {name: child for name, child in node.get("properties", {}).items() if child is not True}
            properties = {**target.get("properties", {}), **own}
            node = {
                **target,
                **{key: value for key, value in node.items() if key != "$ref"},
                **({"properties": properties} if properties else {}),
            }
        return node

    def pod_settings(self) -> Node:
        """The settings of Pods that every workload has."""
        settings = self.resolved({"$ref": "#/$defs/podSettings"})["properties"]
        return {"properties": {"image": {"$ref": "#/$defs/ownImage"}, **settings}}

    def rows(self) -> Iterator[Value]:
        """All values once: those of services as of one, settings of Pods of a workload as of any."""
        yield from self._leaves(self.schema, "")
        yield from self._leaves(self.pod_settings(), WORKLOAD)

    def _leaves(self, node: Node, path: str) -> Iterator[Value]:
        description = node.get("description", "")
        whole = node.get("$ref", "").rpartition("/")[2] in WHOLE
        node = self.resolved(node)
        description = description or node.get("description", "")
        free = node.get("additionalProperties")
        if path in ("services", "nodePools"):
            yield from self._leaves(free or {}, SERVICE if path == "services" else POOL)
        elif path == "defaults":
            yield Value(
                path, node, "settings of every service: keys as in `services.<service>`, those that can be common"
            )
        elif whole or "properties" not in node or description.startswith("as `services."):
            yield Value(path, node, description)
        else:
            of_any = self.pod_settings()["properties"] if path not in ("", WORKLOAD) and _is_workload(node) else {}
            for name, child in node["properties"].items():
                if isinstance(child, dict) and name not in of_any:
                    yield from self._leaves(child, f"{path}.{name}" if path else name)

    def default(self, name: str) -> str:
        """The default as JSON; of a service that of `defaults`, and those of services that have their own."""
        if name.startswith(f"{SERVICE}."):
            key = name.removeprefix(f"{SERVICE}.")
            shown = [_shown(found)] if (found := _at(self.defaults["defaults"], key)) is not None else []
            own = {service: _at(entry, key) for service, entry in self.defaults["services"].items()}
            own = {service: value for service, value in own.items() if value is not None}
            if own and len({_shown(value) for value in own.values()}) == 1 and not shown:
                return _shown(next(iter(own.values())))
            return "; ".join([*shown, *(f"{service} {_shown(v)}" for service, v in own.items() if not _long(v))])
        found = _at(self.defaults, name)
        return "" if found is None else _shown(found)

    def table(self, prefixes: list[str]) -> str:
        """The table of the values below some prefixes, in their order."""
        known = {prefix for line in BLOCK.finditer(README.read_text()) for prefix in line[2].split()}
        rows = list(self.rows())
        lines = ["| value | default | meaning |", "|---|---|---|"]
        for prefix in prefixes:
            for row in rows:
                if max((p for p in known if _below(row.name, p)), key=len, default="") == prefix:
                    lines.append(f"| `{row.name}` | {self.default(row.name)} | {row.description} |")
        return "\n".join(lines)

    def page(self, text: str) -> str:
        """README.md with its tables as they are now."""
        return BLOCK.sub(lambda block: f"{block[1]}{self.table(block[2].split())}{block[3]}", text)


def _is_workload(node: Node) -> bool:
    return "initContainers" in node["properties"]


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _at(values: Node, name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _long(value: Any) -> bool:
    return isinstance(value, dict | list) and len(json.dumps(value)) > 60


def _shown(value: Any) -> str:
    return "see values.yaml" if _long(value) else f"`{json.dumps(value, ensure_ascii=False)}`"


def main() -> None:
    README.write_text(Values().page(README.read_text()))


if __name__ == "__main__":
    main()
