#!/usr/bin/env bash
# torch.Generator.manual_seed takes 64 bits and initial_seed() gives them all back, but the CPU's Mersenne twister is seeded by the lowest
# 32 (Python's random.seed and numpy.random.default_rng take all): 1 and 2^32 + 1 are the same noise, order and dropout.
# Most expect two seeds that are both accepted and kept to be two streams.
# Hurt: services that draw 64-bit seeds or derive them from ids: of 77,000 seeds two are as likely as not one; a "variation" with
# a seed whose upper half was changed is the same take; reports list both seeds as if they were two draws.
# Printed:
#   torch 2.15.0: seeds 1 and 4294967297, initial_seed() 1 and 4294967297: the same noise
#   numpy 2.4.6: seeds 1 and 4294967297: other noise
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.15.0 numpy==2.4.6
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, torch
seeds = (1, 2**32 + 1)
generators = [torch.Generator().manual_seed(seed) for seed in seeds]
kept = [generator.initial_seed() for generator in generators]
same = torch.equal(*(torch.randn(1000, generator=generator) for generator in generators))
numpys = np.array_equal(*(np.random.default_rng(seed).standard_normal(1000) for seed in seeds))
say = lambda equal: "the same noise" if equal else "other noise"
print(f"torch {torch.__version__.split('+')[0]}: seeds {seeds[0]} and {seeds[1]}, initial_seed() {kept[0]} and {kept[1]}: {say(same)}")
print(f"numpy {np.__version__}: seeds {seeds[0]} and {seeds[1]}: {say(numpys)}")
assert kept == list(seeds) and same and not numpys
PY
