#!/usr/bin/env bash
# A clip with an empty caption is a row whose every token is masked. torch's TransformerEncoderLayer gives finite numbers for it while it
# trains, and also in eval mode as long as gradients are on; in eval mode without gradients, on its fast path, the same weights
# give NaN for that row. MultiheadAttention: finite or NaN by need_weights, mode and gradients. Most expect one answer, whichever it is.
# Hurt: caption encoders and conditioners with caption dropout: training runs clean for days, the first evaluation or the service is NaN,
# and the check done by hand (eval mode, gradients on) shows nothing.
# Printed (row 0 has a caption and is finite everywhere):
#   torch 2.15.0: TransformerEncoderLayer, row without a token: training finite, eval finite, eval without gradients NaN
#   torch 2.15.0: MultiheadAttention, need_weights=False: training finite, eval finite, eval without gradients NaN
#   torch 2.15.0: MultiheadAttention, need_weights=True: training NaN, eval NaN, eval without gradients NaN
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.15.0 numpy==2.4.6
cd "$t" && v/bin/python -W ignore - <<'PY'
import torch
torch.manual_seed(0)
tokens = torch.randn(2, 4, 16)  # clip, token, feature
masked = torch.tensor([[False, False, True, True], [True] * 4])
layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
attention = torch.nn.MultiheadAttention(16, 2, batch_first=True)
calls = {
    "TransformerEncoderLayer, row without a token": (layer, lambda: layer(tokens, src_key_padding_mask=masked)),
    "MultiheadAttention, need_weights=False": (
        attention, lambda: attention(tokens, tokens, tokens, key_padding_mask=masked, need_weights=False)[0]),
    "MultiheadAttention, need_weights=True": (attention, lambda: attention(tokens, tokens, tokens, key_padding_mask=masked)[0]),
}
expected = [["finite", "finite", "NaN"], ["finite", "finite", "NaN"], ["NaN", "NaN", "NaN"]]
for (name, (module, call)), wanted in zip(calls.items(), expected):
    found = []
    for training, gradients in ((True, True), (False, True), (False, False)):
        module.train(training)
        with torch.set_grad_enabled(gradients):
            output = call()
        assert output[0].isfinite().all()
        found.append("NaN" if output[1].isnan().any() else "finite")
    print(f"torch {torch.__version__.split('+')[0]}: {name}: training {found[0]}, eval {found[1]}, eval without gradients {found[2]}")
    assert found == wanted, found
PY
