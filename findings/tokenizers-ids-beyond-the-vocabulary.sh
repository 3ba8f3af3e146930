#!/usr/bin/env bash
# A tokenizer.json names its special tokens twice: in the vocabulary, and with ids of their own in the template that puts them
# around a text. Most expect the reader to compare them, and expect a file that is no tokenizer to be a ValueError. The ids are
# taken as they stand: the vocabulary says 3 tokens, the encoded text has token 99999. What is no tokenizer raises Exception
# itself, which `except (OSError, ValueError, RuntimeError)` lets through.
# Hurt: whoever serves models of others. The embedding's IndexError comes with the first prompt and not when the model is
# registered; on a GPU it is an assertion on the device, after which every later call of the process fails, too.
# Printed:
#   tokenizers 0.23.3: 3 tokens, "a" is [0, 99999]
#   tokenizers 0.23.3: "{}" raises Exception: Model missing. at line 1 column 2
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get tokenizers==0.23.3
"$t/v/bin/python" - <<'PY'
import json
from importlib.metadata import version
from tokenizers import Tokenizer, models, processors
tokenizer = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
document = json.loads(tokenizer.to_str())
document["post_processor"]["special_tokens"]["</s>"]["ids"] = [99999]
read = Tokenizer.from_str(json.dumps(document))
print(f'tokenizers {version("tokenizers")}: {read.get_vocab_size()} tokens, "a" is {read.encode("a").ids}')
assert read.get_vocab_size() == 3 and read.encode("a").ids == [0, 99999]
try:
    Tokenizer.from_str("{}")
except Exception as error:
    print(f'tokenizers {version("tokenizers")}: "{{}}" raises {type(error).__name__}: {error}'.splitlines()[0])
    assert type(error) is Exception
PY
