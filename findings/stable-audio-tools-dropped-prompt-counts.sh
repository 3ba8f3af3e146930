#!/usr/bin/env bash
# stable-audio-tools' U-Net (`adp_cfg_1d`, Stable Audio 1) learns an embedding that stands for "no prompt": it takes the prompt's place in the
# rows that training drops (`cfg_dropout_prob`) and in guidance's unconditional branch. One expects such a row to be the same whatever the
# prompt was. The prompt's mask stays, so that the network is told how long the prompt was.
# Hurt: whoever trains on captions whose length says something (long ones from metadata, short ones by people) or compares
# prompts of two lengths: the unconditional branch is another one for each. (The library's transformers ignore masks and have no such part.)
# Printed:
#   stable-audio-tools 0.0.19, a row that is dropped: with other words 0.0% of its output is another,
#     with a prompt of 5 tokens in place of 77 1.6%
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.11.0 numpy==2.4.6 einops==0.8.2 einops-exts==0.0.4 packaging==26.2
get --no-deps stable-audio-tools==0.0.19
cd "$t" && v/bin/python -W ignore - <<'PY'
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
import torch
package = distribution("stable-audio-tools")
spec = spec_from_file_location("adp", package.locate_file("stable_audio_tools/models/adp.py"))
adp = module_from_spec(spec)
spec.loader.exec_module(adp)
torch.manual_seed(0)
unet = adp.UNetCFG1d(in_channels=4, channels=8, multipliers=[4, 4], factors=[2], num_blocks=[1], attentions=[1, 1], attention_heads=4,
                     attention_multiplier=2, context_embedding_features=32, context_embedding_max_length=77).eval()
noisy, time = torch.randn(1, 4, 64), torch.tensor([0.5])  # (rows, channels, latents)
long, words = torch.ones(1, 77), torch.randn(2, 1, 77, 32)  # two prompts of 77 tokens
short = (torch.arange(77) < 5).float()[None]
@torch.no_grad()
def dropped(prompt, mask):
    return unet(noisy, time, embedding=prompt, embedding_mask=mask, embedding_mask_proba=1.0)
whole = dropped(words[0], long)
other_words, other_length = (float((dropped(*of) - whole).std() / whole.std()) for of in ((words[1], long), (words[0], short)))
print(f"stable-audio-tools {package.version}, a row that is dropped: with other words {other_words:.1%} of its output is another,")
print(f"  with a prompt of 5 tokens in place of 77 {other_length:.1%}")
assert other_words == 0 and other_length > 0.01
PY
