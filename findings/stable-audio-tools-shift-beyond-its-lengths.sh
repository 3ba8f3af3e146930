#!/usr/bin/env bash
# stable-audio-tools' `distribution_shift_options` move the drawn timesteps towards noise, from `base_shift` at `min_length` latents to
# `max_shift` at `max_length`. One expects the shift to stay at its ends beyond them, and a training on audio to give the length
# in latents. 0.0.19 extrapolates, and a training that is not pre-encoded gives the length in audio samples.
# Hurt: whoever fine-tunes a flow with these options on audio files: for 11.9 s at 44.1 kHz every timestep that is drawn is 1: the
# model sees noise alone, its loss falls all the same, and nothing warns. (Both are mended in its later sources, not on PyPI.)
# Printed:
#   stable-audio-tools 0.0.19, timesteps 0.1, 0.5, 0.9 moved
#     for 4096 latents, its max_length: 0.260, 0.760, 0.966
#     for 8192 latents: 0.412, 0.863, 0.983
#     for the 524288 samples of 256 latents, as its training step asks: 1.000, 1.000, 1.000
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.11.0 numpy==2.4.6 tqdm==4.67.1
get --no-deps stable-audio-tools==0.0.19
cd "$t" && v/bin/python -W ignore - <<'PY'
import inspect, sys, types
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
import torch
package = distribution("stable-audio-tools")
sys.modules["k_diffusion"] = types.ModuleType("k_diffusion")  # not asked for what is shown here
spec = spec_from_file_location("sampling", package.locate_file("stable_audio_tools/inference/sampling.py"))
sampling = module_from_spec(spec)
spec.loader.exec_module(sampling)
training = package.locate_file("stable_audio_tools/training/diffusion.py").read_text()
asked = "self.diffusion.dist_shift.time_shift(t, reals.shape[2])" in training  # before the autoencoder: samples
shift, timesteps = sampling.DistributionShift(), torch.tensor([0.1, 0.5, 0.9])
moved = {length: shift.time_shift(timesteps, length) for length in (4096, 8192, 524288)}
words = {4096: "4096 latents, its max_length", 8192: "8192 latents", 524288: "the 524288 samples of 256 latents, as its training step asks"}
print(f"stable-audio-tools {package.version}, timesteps 0.1, 0.5, 0.9 moved")
for length, found in moved.items():
    print(f"  for {words[length]}: {', '.join(f'{float(t):.3f}' for t in found)}")
assert asked and float(moved[8192][0]) > 1.2 * float(moved[4096][0]) and bool((moved[524288] == 1).all())
PY
