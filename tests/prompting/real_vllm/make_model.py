"""A model of random weights that vLLM serves: two layers of Llama, and a tokenizer trained here. Nothing is downloaded.

    python make_model.py FOLDER

It has learned nothing, so what it says is right only where the server binds it. Runs in vLLM's environment.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = [
    "It begins with a theme that returns again and again, each time a little further from where it was.",
    "There is a long line above, and below it a figure that goes on until the end of the piece.",
    "What was heard at the opening comes back in the middle, then once more before all of it fades away.",
]
CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and their most common pairs: every text can be said."""
    bytes_and_pairs = Tokenizer(models.BPE())
    bytes_and_pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_and_pairs.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bytes_and_pairs.train_from_iterator(TEXT, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bytes_and_pairs, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    made.chat_template = CHAT
    return made


def main(folder: Path) -> None:
    torch.manual_seed(0)
    made = tokenizer()
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, head_dim=32, max_position_embeddings=4096,
        bos_token_id=made.bos_token_id, eos_token_id=made.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    made.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
