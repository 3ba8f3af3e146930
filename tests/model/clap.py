"""A CLAP of random weights in transformers' layout: its text encoder as wide as the published one, with two layers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import ClapTextConfig, ClapTextModelWithProjection, PreTrainedTokenizerFast

VOCABULARY = 300
BEGIN, PAD, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"  # RoBERTa's ids 0 to 3


def clap_config() -> ClapTextConfig:
    return ClapTextConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=2,
        intermediate_size=32,
        max_position_embeddings=80,
        projection_hidden_act="relu",
    )


def write_clap(prompts: Sequence[str], folder: Path) -> ClapTextModelWithProjection:
    """Writes config.json, model.safetensors and a tokenizer of RoBERTa's kind; the model that was written."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BEGIN, PAD, END, UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(prompts)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, 0), (END, 2)]
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = ClapTextModelWithProjection(clap_config())
        model.train(False)
        for parameter in model.parameters():  # biases and norms begin as if they were not there
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model
