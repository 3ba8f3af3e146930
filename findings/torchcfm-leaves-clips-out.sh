#!/usr/bin/env bash
# Flow matching with optimal transport pairs the clips of a batch with noises so that paths are short: each clip gets one noise, each noise
# one clip. torchcfm's exact matcher computes just that pairing, then draws as many pairs from it with replacement: a step
# leaves out 37 of 100 clips, and others come twice to seven times, with the same noise. The sampler's argument `replace` cannot be
# reached from the matcher. Most expect each clip of a batch to be trained on once, as in the matcher without transport.
# Hurt: whoever loads and encodes audio for such a step (a third of that work is for nothing), counts epochs by batches, or compares
# the two matchers "at the same batch size".
# Printed:
#   torchcfm 1.0.7, batch of 64 clips, 50 steps
#     no transport: 100 % of the clips are trained on in a step, one up to 1 times
#     exact optimal transport: 63 % of the clips are trained on in a step, one up to 7 times
#     its plan pairs 64 of 64 clips with a noise each; drawn by its sampler with replace=False: 100 %
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.11.0 numpy==2.4.6 scipy==1.17.1 pot==0.9.7.post1
get --no-deps torchcfm==1.0.7  # its other requirements are those of its examples
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, torch
from importlib.metadata import version
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher, ExactOptimalTransportConditionalFlowMatcher
from torchcfm.optimal_transport import OTPlanSampler
batch, steps = 64, 50
torch.manual_seed(0), np.random.seed(0)
print(f"torchcfm {version('torchcfm')}, batch of {batch} clips, {steps} steps")
def used(matcher):
    """Share of a batch's clips that its steps train on, and how often one comes at most."""
    counts = []
    for _ in range(steps):
        noise, clips = torch.randn(batch, 512), torch.randn(batch, 512)
        at, path = matcher.sample_location_and_conditional_flow(noise, clips, t=torch.ones(batch))[1:]  # at t = 1 the path is at its clip
        nearest = torch.cdist(at, clips)
        assert nearest.min(dim=1).values.max() < 0.1
        counts.append(torch.bincount(nearest.argmin(dim=1), minlength=batch))
    return (torch.stack(counts) > 0).float().mean().item(), int(torch.stack(counts).max())
found = {}
for name, matcher in (("no transport", ConditionalFlowMatcher(0.0)),
                      ("exact optimal transport", ExactOptimalTransportConditionalFlowMatcher(0.0))):
    found[name], most = used(matcher)
    print(f"  {name}: {found[name]:.0%} of the clips are trained on in a step, one up to {most} times".replace("%", " %"))
noise, clips, sampler = torch.randn(batch, 512), torch.randn(batch, 512), OTPlanSampler("exact")
plan = sampler.get_map(noise, clips) > 1e-9
paired = int(((plan.sum(axis=0) == 1) & (plan.sum(axis=1) == 1)).sum())
drawn = sampler.sample_plan_with_labels(noise, clips, None, torch.arange(batch), replace=False)[3]
share = 100 * drawn.unique().numel() // batch
print(f"  its plan pairs {paired} of {batch} clips with a noise each; drawn by its sampler with replace=False: {share} %")
assert found["no transport"] == 1 and 0.6 < found["exact optimal transport"] < 0.67
assert paired == batch == drawn.unique().numel()
PY
