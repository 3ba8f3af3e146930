#!/usr/bin/env bash
# stable-audio-tools' copy of auraloss takes the spectral convergence of each crop by itself where auraloss takes the batch's: a crop whose
# original is silent is divided by its floor of 1e-4. Its training wrapper hands original and reconstruction over the other way round, which
# moves the fault to silent reconstructions. Most expect a silent crop to count as others do, and the two to be the same loss.
# Hurt: autoencoders trained on crops of music with rests or padding: one silent crop of two, reconstructed at -60 dB, is nearly all of the
# loss and, once gradients are clipped, of the step; in the wrapper's order a decoder that begins quietly does the same.
# Printed:
#   two loud crops: auraloss 0.4.0 0.337, stable-audio-tools 0.0.19 0.337, in its wrapper's order 0.334
#   one of them silent: auraloss 2.155, stable-audio-tools 63.103
#   a silent reconstruction of loud crops, in the wrapper's order: 12318.177
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.11.0 numpy==2.4.6 scipy==1.17.1
get --no-deps auraloss==0.4.0 stable-audio-tools==0.0.19
cd "$t" && v/bin/python -W ignore - <<'PY'
import importlib.util
import auraloss, torch
from importlib.metadata import distribution, version
# the one file, without the library's hundred dependencies
file = distribution("stable-audio-tools").locate_file("stable_audio_tools/training/losses/auraloss.py")
spec = importlib.util.spec_from_file_location("losses", file)
losses = importlib.util.module_from_spec(spec); spec.loader.exec_module(losses)
windows = [2048, 1024, 512, 256, 128, 64, 32]
options = dict(fft_sizes=windows, hop_sizes=[n // 4 for n in windows], win_lengths=windows)
theirs, library = auraloss.freq.MultiResolutionSTFTLoss(**options), losses.MultiResolutionSTFTLoss(**options)
torch.manual_seed(0)
loud = torch.randn(2, 2, 16384) * 0.1  # (crops, channels, samples)
decoded = loud + torch.randn_like(loud) * 0.02
plain = [float(each) for each in (theirs(decoded, loud), library(decoded, loud), library(loud, decoded))]
print(f"two loud crops: auraloss {version('auraloss')} {plain[0]:.3f}, stable-audio-tools {version('stable-audio-tools')} {plain[1]:.3f}, in its wrapper's order {plain[2]:.3f}")
half = loud.clone(); half[1] = 0
quiet = half + torch.randn_like(half) * 1e-3
batch, each = float(theirs(quiet, half)), float(library(quiet, half))
print(f"one of them silent: auraloss {batch:.3f}, stable-audio-tools {each:.3f}")
turned = float(library(loud, torch.zeros_like(loud)))
print(f"a silent reconstruction of loud crops, in the wrapper's order: {turned:.3f}")
assert max(plain) < 0.5 and batch < 5 and each > 50 and turned > 10_000
PY
