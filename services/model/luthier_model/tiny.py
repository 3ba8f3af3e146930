"""Models that any CPU trains: stable-audio-tools' own classes and checkpoint layout, for machines without a GPU or the
gated weights.

`tiny` has 0.6 million parameters: it shows that every part works, and makes no music. `small` has 2.5 million and
windows of 4.1 s: enough to learn a beat at the tempo that the prompt names.
"""

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from luthier_model import checkpoint
from luthier_model.configuration import TINY, Configuration, check, packaged
from luthier_model.network import random_model

VOCABULARY: Final = 512
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # T5's special tokens, at T5's ids 0, 1, 2
HEAD_WIDTH: Final = 32


def configuration(latent_scale: float = 1.0, size: str = TINY) -> Configuration:
    """The configuration of a size; `latent_scale` divides the autoencoder's latents so that they have unit variance."""
    document: dict[str, Any] = copy.deepcopy(dict(packaged(size).document))
    document["model"]["pretransform"]["scale"] = latent_scale
    return check(document)


def write_random(configuration: Configuration, prompts: Sequence[str], folder: Path, seed: int) -> tuple[Path, Path]:
    """A model of random weights: writes `weights.safetensors` and `text_encoder/`, and returns their paths."""
    text, weights = folder / "text_encoder", folder / "weights.safetensors"
    write_text_encoder(prompts, configuration.cond_dim, text, seed)
    checkpoint.write(weights, random_model(configuration, seed).state_dict(), {"format": "pt"})
    return weights, text


def write_text_encoder(prompts: Sequence[str], width: int, folder: Path, seed: int) -> None:
    """A small text encoder of T5's classes: a tokenizer trained on the prompts at hand and a random, frozen encoder.

    Writes config.json, model.safetensors and the tokenizer into `folder`; the same input gives the same bytes. Random
    frozen embeddings still tell prompts apart (a reservoir), which is all that the tiny model needs; they carry no
    knowledge of language.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # counting in parallel would make ties a matter of luck
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(prompts)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
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
