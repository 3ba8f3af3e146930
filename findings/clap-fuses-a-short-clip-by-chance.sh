#!/usr/bin/env bash
# CLAP with fusion hears of audio beyond 10 s three pieces more, and nothing more of what is shorter: laion_clap, in evaluation,
# fuses no short clip. Most expect transformers' ClapFeatureExtractor to do the same, and a clip's vector to depend on the clip.
# In a batch without long audio the extractor marks one clip, drawn anew at every call, as longer; that one is fused with three
# copies of itself. A clip alone is always marked. Of long audio the three pieces are drawn anew as well (in laion_clap, too),
# from numpy's global state. And its bands begin at 0 Hz, laion_clap's at 50 Hz (HTSAT-tiny.json).
# Hurt: whoever scores with CLAP. Scores of ten-second clips change with the batch and the run, and differ from those published
# with laion_clap; scores of long audio change from run to run.
# Printed:
#   transformers 5.24.0: of 4 clips of 3 s, marked as longer in 20 calls: [0, 1, 2, 3]
#   transformers 5.24.0: the vector of one clip, marked or not: cosine 0.8108
#   transformers 5.24.0: 20 s, two calls: features differ by more than 10 dB
#   transformers 5.24.0: lowest band from 0 Hz
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.11.0 transformers==5.24.0 numpy==2.4.6
"$t/v/bin/python" - 2>/dev/null <<'PY'
from importlib.metadata import version
import numpy as np, torch
from transformers import ClapAudioConfig, ClapAudioModel, ClapFeatureExtractor
said = f'transformers {version("transformers")}:'
extractor = ClapFeatureExtractor()
draw = np.random.default_rng(1)
clips = [0.1 * draw.standard_normal(3 * 48000) for _ in range(4)]
def features(audio):
    return extractor(audio, sampling_rate=48000, return_tensors="pt")
marked = {features(clips)["is_longer"].flatten().tolist().index(True) for _ in range(20)}
print(said, "of 4 clips of 3 s, marked as longer in 20 calls:", sorted(marked))
assert len(marked) > 1 and bool(features(clips[0])["is_longer"])
torch.manual_seed(0)
model = ClapAudioModel(ClapAudioConfig(enable_fusion=True)).eval()
for value in model.parameters():
    value.data += 0.05 * torch.randn_like(value)
heard = features(clips[0])["input_features"].float()
with torch.no_grad():
    both = [model(heard, is_longer=torch.tensor([[mark]])).pooler_output for mark in (False, True)]
cosine = torch.nn.functional.cosine_similarity(*both).item()
print(said, f"the vector of one clip, marked or not: cosine {cosine:.4f}")
assert cosine < 0.9999
long = draw.standard_normal(20 * 48000) * np.linspace(0, 0.1, 20 * 48000)
apart = (features(long)["input_features"] - features(long)["input_features"]).abs().max().item()
assert apart > 10
print(said, "20 s, two calls: features differ by more than 10 dB")
print(said, f"lowest band from {extractor.frequency_min:g} Hz")
assert extractor.frequency_min == 0
PY
