"""A small text encoder of T5's classes: a tokenizer trained on the prompts at hand and a random, frozen
encoder.

Random frozen states still tell prompts apart (a reservoir), which is all that the tiny model needs; they
carry no knowledge of language.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

VOCABULARY = 512
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
"""T5's special tokens, at T5's ids 0, 1, 2."""
HEAD_WIDTH = 32


def make_text_encoder(prompts: Sequence[str], width: int, folder: Path, seed: int) -> None:
    """Writes config.json, model.safetensors and the tokenizer into `folder`. The same input gives the same
    bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(prompts)
    tokenizer.save_pretrained(folder)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=width,
        d_kv=HEAD_WIDTH,
        d_ff=2 * width,
        num_layers=2,
        num_heads=max(1, width // HEAD_WIDTH),
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        T5EncoderModel(config).save_pretrained(folder)


def _tokenizer(prompts: Sequence[str]) -> PreTrainedTokenizerFast:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # counting in parallel would make ties a matter of luck
    bytes_level = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer, tokenizer.decoder = bytes_level, decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(prompts)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_input_names=["input_ids", "attention_mask"],
    )
