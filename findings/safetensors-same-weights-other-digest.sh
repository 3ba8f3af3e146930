#!/usr/bin/env bash
# The same tensors with the same metadata, saved by several runs of one script, are files with different digests: the metadata keys are
# written in an order that is drawn anew in each process. Loading does not keep the order of saving either (wider types come first).
# Most expect equal input to give equal bytes, as it does while there is at most one metadata key.
# Hurt: registries and caches that address checkpoints and adapters by digest (each save is a new artifact), reproducibility checks,
# signatures; and code that pairs loaded tensors with a list by position.
# Printed (12 of the second line can be a little less by chance):
#   safetensors 0.8.0: one metadata key, 12 runs: 1 digest(s)
#   safetensors 0.8.0: eight metadata keys, 12 runs: 12 digest(s)
#   saved order ['z', 'a', 'm'], loaded order ['m', 'z', 'a']
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 safetensors==0.8.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import hashlib, subprocess, sys
import numpy as np
from importlib.metadata import version
from safetensors.numpy import load_file, save_file
script = """
import sys, numpy as np
from safetensors.numpy import save_file
tensors = {"z": np.ones(3, np.float32), "a": np.ones(2, np.float16), "m": np.ones(2, np.float64)}
save_file(tensors, "weights.safetensors", metadata={f"key{n}": "value" for n in range(int(sys.argv[1]))})
"""
def digests(keys):
    found = set()
    for _ in range(12):
        subprocess.run([sys.executable, "-c", script, str(keys)], check=True)
        found.add(hashlib.sha256(open("weights.safetensors", "rb").read()).hexdigest())
    return len(found)
one, eight = digests(1), digests(8)
order = list(load_file("weights.safetensors"))
print(f"safetensors {version('safetensors')}: one metadata key, 12 runs: {one} digest(s)")
print(f"safetensors {version('safetensors')}: eight metadata keys, 12 runs: {eight} digest(s)")
print(f"saved order ['z', 'a', 'm'], loaded order {order}")
assert one == 1 and eight > 1 and order == ["m", "z", "a"]
PY
