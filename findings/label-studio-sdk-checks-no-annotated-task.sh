#!/usr/bin/env bash
# `LabelInterface.validate_task` of label-studio-sdk says whether a task fits a labelling interface. Most expect it to check what the
# task brings along, too: it looks for `annotations` and `predictions` itself. It then calls its own check without the annotation, so
# every task that has any ends in a TypeError, right or wrong; only tasks without are ever checked. `validate_annotation` works.
# Hurt: who checks pre-annotated tasks or an export before an import, and takes the error for a fault of the data.
# Printed:
#   label-studio-sdk 2.1.2: bare task True, its annotation alone True, the two together TypeError
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get label-studio-sdk==2.1.2
cd "$t" && v/bin/python -W ignore - <<'PY'
from importlib.metadata import version
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface('<View><Text name="text" value="$text"/><Choices name="mood" toName="text">'
                           '<Choice value="calm"/><Choice value="wild"/></Choices></View>')
interface.validate()
task = {"data": {"text": "a waltz"}}
annotation = {"result": [{"from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": ["calm"]}}]}
bare, alone = interface.validate_task(task), interface.validate_annotation(annotation)
try: together = interface.validate_task({**task, "annotations": [annotation]})
except TypeError as error: together = type(error).__name__
print(f"label-studio-sdk {version('label-studio-sdk')}: bare task {bare}, its annotation alone {alone}, the two together {together}")
assert (bare, alone, together) == (True, True, "TypeError")
PY
