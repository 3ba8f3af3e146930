#!/usr/bin/env bash
# torch.compile tells of a compiler that fails by raising. One expects that to stay so whatever libraries are imported. Importing
# stable-audio-tools' model classes (their `models/utils.py`) sets `torch._dynamo.config.suppress_errors` for the whole process: from then
# on every torch.compile in it, of any module by anybody, runs what it could not compile as if it were not asked to, with a log line.
# Hurt: whoever measures a compiled model beside the library, or ships one in an image without a C++ compiler or triton: it "works" at the
# old speed, and minutes of warm-up compile nothing.
# Printed:
#   torch 2.11.0 alone: BackendCompilerFailed
#   after importing stable-audio-tools 0.0.19: ran uncompiled, the same result
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.11.0 numpy==2.4.6 safetensors==0.7.0 packaging==26.2
get --no-deps stable-audio-tools==0.0.19
cd "$t" && v/bin/python -W ignore - <<'PY'
import logging
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
import torch
import torch._dynamo
logging.disable(logging.WARNING)
def no_compiler(graph, inputs):
    raise OSError("no C++ compiler is here")
def compiled():
    torch._dynamo.reset()
    try:
        found = torch.compile(lambda x: x.sin() + 1, backend=no_compiler)(torch.ones(3))
        return "ran uncompiled, the same result" if torch.equal(found, torch.ones(3).sin() + 1) else "another result"
    except Exception as error:
        return type(error).__name__
before = compiled()
package = distribution("stable-audio-tools")
spec = spec_from_file_location("utils", package.locate_file("stable_audio_tools/models/utils.py"))
spec.loader.exec_module(module_from_spec(spec))
after = compiled()
print(f"torch {torch.__version__.split('+')[0]} alone: {before}")
print(f"after importing stable-audio-tools {package.version}: {after}")
assert before == "BackendCompilerFailed" and after.startswith("ran uncompiled"), (before, after)
PY
