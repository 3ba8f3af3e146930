#!/usr/bin/env bash
# A prompt is tokenized with padding="max_length": it has max_length tokens, as text encoders of audio models are trained to read it.
# transformers' fast tokenizers keep padding and truncation as a state of the one object: set at the beginning of a call, read at its
# end. Another thread that counts tokens (no padding) in between switches it off, and the prompt comes without padding; no error.
# Hurt: services that answer in threads: at times a prompt is encoded with 3 tokens and not 64, and other audio is made of it.
# Our own code: services/model/luthier_model/generation.py holds a lock; tests/model/test_generation.py.
# Printed (numbers of the race differ from run to run):
#   transformers 5.23.0, tokenizers 0.23.3
#   alone: 0 of 3000 calls have other than 64 tokens
#   beside two threads that count tokens: 21 of 3000, e.g. 3; errors: 0
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 transformers==5.23.0 tokenizers==0.23.3
cd "$t" && v/bin/python -W ignore - <<'PY'
import threading, tokenizers, transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
made = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "calm": 2, "piano": 3}, unk_token="<unk>"))
made.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>")
def padded(calls):
    return [len(tokenizer(["calm piano"], padding="max_length", truncation=True, max_length=64)["input_ids"][0]) for _ in range(calls)]
other = [n for n in padded(3000) if n != 64]
print(f"alone: {len(other)} of 3000 calls have other than 64 tokens")
assert not other
stop, errors, done = threading.Event(), [], 0
def count():
    while not stop.is_set():
        try: tokenizer("calm piano " * 200)
        except RuntimeError as error: errors.append(error)
threads = [threading.Thread(target=count) for _ in range(2)]
for each in threads: each.start()
while not other and done < 60000:
    other, done = [n for n in padded(3000) if n != 64], done + 3000
stop.set()
for each in threads: each.join()
print(f"beside two threads that count tokens: {len(other)} of 3000, e.g. {other[0] if other else 64}; errors: {len(errors)}")
assert other and not errors
PY
