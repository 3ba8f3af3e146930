#!/usr/bin/env bash
# torch.FakeTensorMode counts shapes without memory or device. If the first backward pass of a process is one among fake tensors, every
# later child by fork raises in its own backward pass, on machines without any GPU; after one ordinary backward pass the same fake
# work leaves forks well. (Fake mode registers a stand-in for CUDA; the first backward pass starts a thread per device it then knows.)
# Most expect counting shapes to leave nothing behind, and the order of two unrelated backward passes not to matter.
# Hurt: estimates of memory before training, then ranks or workers that are forked: "Unable to handle autograd's threading in combination
# with fork", in a process that never touched a GPU, or only in the order in which a test suite happens to run.
# Printed:
#   torch 2.15.0: fake first: the forked child raises RuntimeError; an ordinary pass first: the forked child computes its gradient
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.15.0 numpy==2.4.6
cd "$t" && cat > try.py <<'PY'
import os, sys, torch
from torch._subclasses.fake_tensor import FakeTensorMode
assert not torch.cuda.is_available()
if "ordinary" in sys.argv:
    torch.ones((), requires_grad=True).backward()
with FakeTensorMode():
    torch.ones(3, requires_grad=True).sum().backward()
if not (child := os.fork()):
    try:
        x = torch.ones(3, requires_grad=True)
        x.sum().backward()
        os._exit(0 if x.grad.tolist() == [1.0] * 3 else 3)
    except RuntimeError as error:
        os._exit(1 if "fork" in str(error) else 2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
PY
code() { set +e; CUDA_VISIBLE_DEVICES= v/bin/python -W ignore try.py "$@" 2>"$t/said"; echo $?; set -e; }
fake=$(code) ordinary=$(code ordinary)
version=$(v/bin/python -c 'import torch; print(torch.__version__.split("+")[0])')
[ "$fake" = 1 ] && [ "$ordinary" = 0 ] || { cat "$t/said"; echo "changed: $fake, $ordinary"; exit 1; }
echo "torch $version: fake first: the forked child raises RuntimeError; an ordinary pass first: the forked child computes its gradient"
