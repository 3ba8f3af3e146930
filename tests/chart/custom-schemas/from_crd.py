"""Makes kubeconform's schema of a CustomResourceDefinition: `python from_crd.py CRD.yaml…`."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

KEPT = {
    "additionalProperties", "anyOf", "enum", "items", "maximum", "maxItems", "maxLength", "minimum", "minItems",
    "minLength", "oneOf", "pattern", "properties", "required", "type",
}  # fmt: skip


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema alone, where what is not named is refused."""
    kept = {key: value for key, value in schema.items() if key in KEPT}
    if "properties" in kept:
        kept["properties"] = {name: strict(value) for name, value in kept["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    elif isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = strict(kept["additionalProperties"])
    if "items" in kept:
        kept["items"] = strict(kept["items"])
    if schema.get("x-kubernetes-int-or-string"):
        kept = {"type": ["integer", "string"]}
    return kept


def write(path: Path) -> None:
    """One file for each served version, named as kubeconform looks for it."""
    spec = yaml.safe_load(path.read_text())["spec"]
    for version in spec["versions"]:
        if not version["served"]:
            continue
        schema = dict(version["schema"]["openAPIV3Schema"])
        schema["properties"] = {k: v for k, v in schema["properties"].items() if k != "status"}
        made = strict(schema)
        # of every object, whether or not the definition names them
        made["properties"] |= {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        }
        group = spec["group"].split(".")[0]
        target = Path(__file__).with_name(f"{spec['names']['singular']}-{group}-{version['name']}.json")
        target.write_text(json.dumps(made, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write(Path(name))
