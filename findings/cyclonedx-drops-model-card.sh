#!/usr/bin/env bash
# A CycloneDX bill of materials of a model (ML-BOM) states task, training data sets and limits in `modelCard`, and a data set's contents
# in `data`. cyclonedx-python-lib finds such a document valid, reads it without a word, and writes it again as a valid one without
# either: the component is still called a machine-learning-model. (The library lists the two as still to be done since 1.5.) Most expect
# the library of the format's own makers to keep what its own validation knows, or to raise.
# Hurt: whoever merges, filters or converts bills of models by this library: which data a model was trained on is gone from the
# new file, and the new file passes every check.
# Printed:
#   cyclonedx-python-lib 11.12.0
#     read, CycloneDX 1.6: valid; model: bom-ref, modelCard, name, type, version; data set: bom-ref, data, name, type, version
#     written, CycloneDX 1.6: valid; model: bom-ref, name, type, version; data set: bom-ref, name, type, version
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get "cyclonedx-python-lib[json-validation]==11.12.0" py-serializable==2.2.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import json
from importlib.metadata import version
from cyclonedx.model.bom import Bom
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
model = {"type": "machine-learning-model", "bom-ref": "model", "name": "model", "version": "1", "modelCard": {
    "modelParameters": {"task": "text-to-audio", "datasets": [{"ref": "clips"}]},
    "considerations": {"technicalLimitations": ["It makes what its training clips are of."]}}}
clips = {"type": "data", "bom-ref": "clips", "name": "clips", "version": "1", "data": [
    {"type": "dataset", "name": "clips", "classification": "public", "contents": {"url": "https://example.org/clips.tar"}}]}
read = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [model, clips]}
def told(what, document):
    """Prints what the document holds; returns the keys of the model and of its data set."""
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))
    assert fault is None, fault
    keys = {each["bom-ref"]: set(each) for each in document["components"]}
    shown = {name: ", ".join(sorted(found)) for name, found in keys.items()}
    print(f"  {what}, CycloneDX {document['specVersion']}: valid; model: {shown['model']}; data set: {shown['clips']}")
    return keys["model"], keys["clips"]
print(f"cyclonedx-python-lib {version('cyclonedx-python-lib')}")
before = told("read", read)
after = told("written", json.loads(JsonV1Dot6(Bom.from_json(read)).output_as_string()))
assert before[0] - after[0] == {"modelCard"} and before[1] - after[1] == {"data"}, (before, after)
PY
