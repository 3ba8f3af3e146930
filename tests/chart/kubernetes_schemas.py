"""Kubernetes' own JSON schemas as kubeconform reads them; from the package kubernetes-validate, nothing is downloaded.

The package keeps all definitions in one file that names itself by an address; kubeconform wants each kind whole.
"""

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate

VERSION = "1.36.0"
FOLDER = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{VERSION}-local-strict"
REFERENCE = re.compile(r'"(?:/api/_definitions\.json)?#/\$defs/([^"]+)"')


def write(folder: Path, kinds: set[str]) -> str:
    """Writes the schemas of `kinds`, such as `deployment-apps-v1`; answers with kubeconform's -schema-location."""
    definitions = json.loads((FOLDER / "_definitions.json").read_text())["$defs"]
    for kind in kinds:
        schema = json.loads((FOLDER / f"{kind}.json").read_text())
        whole = _whole({k: v for k, v in schema.items() if k not in ("$id", "$schema")}, definitions)
        (folder / f"{kind}.json").write_text(json.dumps(whole))
    return f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


def _whole(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema with every definition that it reaches."""
    reached: dict[str, Any] = {}
    waiting = REFERENCE.findall(json.dumps(schema))
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached[name] = definitions[name]
            waiting += REFERENCE.findall(json.dumps(definitions[name]))
    text = json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": reached})
    return dict(json.loads(REFERENCE.sub(r'"#/$defs/\1"', text)))
