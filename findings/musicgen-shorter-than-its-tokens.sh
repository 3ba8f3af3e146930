#!/usr/bin/env bash
# MusicGen in transformers: the documentation counts max_new_tokens as frames of audio (256 tokens = about 5 s at 50 Hz), so seconds x frame
# rate tokens are expected to be so many seconds. Its codebooks are delayed by one frame each, and the delay is counted, too: a model of
# four codebooks gives three frames less, whatever was asked for, without a warning.
# Hurt: baselines of exact length: 10 s from 500 tokens are 9.94 s; a length error that is measured is the caller's, and what is padded to
# 10 s ends in 60 ms of silence, which metrics hear as the model's.
# Printed:
#   transformers 5.24.0: 100 tokens are 97 frames, 500 tokens are 497 frames (4 codebooks)
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.11.0 transformers==5.24.0 numpy==2.4.6
cd "$t" && TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1 v/bin/python -W ignore - <<'PY'
import torch, transformers
from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, MusicgenForConditionalGeneration, T5Config
torch.manual_seed(1)
codec = EncodecConfig(target_bandwidths=[1.6], sampling_rate=8000, num_filters=4, num_residual_layers=1, upsampling_ratios=[5, 4, 4],
                      codebook_size=16, codebook_dim=16, hidden_size=16, num_lstm_layers=1)  # 80 samples a frame
decoder = MusicgenDecoderConfig(vocab_size=16, num_hidden_layers=1, ffn_dim=32, num_attention_heads=2, hidden_size=16, num_codebooks=4,
                                pad_token_id=16, bos_token_id=16)
text = T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
model = MusicgenForConditionalGeneration(MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)).eval()
known = model.generation_config
known.decoder_start_token_id = known.pad_token_id = known.bos_token_id = 16
frames = {}
for tokens in (100, 500):
    audio = model.generate(input_ids=torch.tensor([[3, 1]]), attention_mask=torch.ones(1, 2, dtype=torch.long), do_sample=True,
                           guidance_scale=3.0, max_new_tokens=tokens)
    frames[tokens] = audio.shape[-1] / 80
told = ", ".join(f"{tokens} tokens are {found:g} frames" for tokens, found in frames.items())
print(f"transformers {transformers.__version__}: {told} (4 codebooks)")
assert frames == {100: 97, 500: 497}, frames
PY
