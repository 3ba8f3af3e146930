"""CLAP's published weights: laion_clap's `630k-audioset-fusion-best.pt`, or transformers' `laion/clap-htsat-fused`.

laion_clap's names are brought to transformers'; queries, keys and values of the audio encoder, one tensor there, are
three here. The tokenizer lies beside the weights, `tokenizer.json` or RoBERTa's `vocab.json` and `merges.txt`, and goes
into the header of the file that is written, so that one file is all that the score needs.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from luthier_evaluation.conversion.base import ConversionError, Converter, Published
from luthier_evaluation.conversion.checkpoints import Shape, by_prefix, read_checkpoint
from luthier_evaluation.embedders.clap import MAX_TOKENIZER_BYTES, TOKENIZER, Size, tokenizer_of, weight_shapes
from luthier_kit.bounded_json import read_json

WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin", "630k-audioset-fusion-best.pt")
PREFIXES: Final = ("", "module.", "clap.", "model.")
PARTS: Final = ("query", "key", "value")
_RENAMED: Final = (
    (r"^text_model\.", "text_branch."),
    (r"^(text|audio)_projection\.linear1\.", r"\1_projection.0."),
    (r"^(text|audio)_projection\.linear2\.", r"\1_projection.2."),
    (r"^audio_model\.audio_encoder\.batch_norm\.", "audio_branch.bn0."),
    (r"^audio_model\.audio_encoder\.", "audio_branch."),
    (r"^(audio_branch\..*)\.layernorm_before\.", r"\1.norm1."),
    (r"^(audio_branch\..*)\.layernorm_after\.", r"\1.norm2."),
    (r"^(audio_branch\..*)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"^(audio_branch\..*)\.attention\.self\.", r"\1.attn."),
    (r"^(audio_branch\..*)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^(audio_branch\..*)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^(audio_branch\..*\.attn)\.(?:query|key|value)\.", r"\1.qkv."),
)
"""transformers' names to laion_clap's, in this order."""


def laions_name(name: str) -> str:
    """laion_clap's name of a tensor of transformers' ClapModel; the three of an attention's have one."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def read(source: Path | None, size: Size | None = None) -> Published:
    """CLAP of a file, or of a folder that holds one of WEIGHTS, with the tokenizer in the same folder."""
    if source is None:
        raise ConversionError("NO_SOURCE", f"name {CLAP.source}")
    path = _weights_of(source) if source.is_dir() else source
    tokenizer = _tokenizer_beside(path, size)
    wanted = weight_shapes(size)
    laions = {laions_name(name): shape for name, shape in wanted.items()}

    def choose(found: Mapping[str, Shape]) -> dict[str, str]:
        transformers = any(name.endswith("text_model.embeddings.word_embeddings.weight") for name in found)
        return by_prefix(found, wanted if transformers else laions, PREFIXES)

    checkpoint = read_checkpoint(path, choose)
    tensors = checkpoint.tensors
    if set(tensors) != set(wanted):
        tensors = {name: _part(tensors[laions_name(name)], name) for name in wanted}
    return Published(tensors, path.name, checkpoint.sha256, left_out=checkpoint.left_out, header={TOKENIZER: tokenizer})


def _part(stored: torch.Tensor, name: str) -> torch.Tensor:
    """Of laion_clap's queries, keys and values one above another, those that `name` asks for; else the tensor."""
    found = re.match(r"^audio_model\..*\.attention\.self\.(query|key|value)\.", name)
    if found is None:
        return stored
    if len(stored) % len(PARTS):
        raise ConversionError("WEIGHTS_DO_NOT_FIT", f"{laions_name(name)} has {len(stored)} rows, no multiple of 3")
    return stored.chunk(len(PARTS))[PARTS.index(found[1])].contiguous()


def _weights_of(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ConversionError("FILE_UNREADABLE", f"{folder} holds none of {', '.join(WEIGHTS)}")


def _tokenizer_beside(weights: Path, size: Size | None) -> str:
    folder = weights.parent
    try:
        if (folder / "tokenizer.json").is_file():
            text = _bounded(folder / "tokenizer.json")
        elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            text = _roberta(_bounded(folder / "vocab.json"), _bounded(folder / "merges.txt"))
        else:
            wanted = "RoBERTa's tokenizer.json, or vocab.json and merges.txt"
            raise ConversionError("NO_TOKENIZER", f"{folder} must hold {wanted}, beside {weights.name}")
        tokenizer_of(text, size)
    except (ValueError, OSError) as error:
        raise ConversionError("TOKENIZER_INVALID", f"{folder}: {error}") from None
    return text


def _bounded(path: Path) -> str:
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_TOKENIZER_BYTES} bytes")
    return path.read_text(encoding="utf-8")


def _roberta(vocabulary: str, merges: str) -> str:
    """tokenizer.json of RoBERTa's two files."""
    numbers = read_json(vocabulary.encode(), max_bytes=MAX_TOKENIZER_BYTES, max_values=200_000, max_depth=1)
    if not isinstance(numbers, dict) or not all(isinstance(number, int) for number in numbers.values()):
        raise ValueError("vocab.json must give a number for each token")
    rows = [tuple(line.split(" ")) for line in merges.splitlines() if line and not line.startswith("#version")]
    if any(len(row) != 2 for row in rows):
        raise ValueError("merges.txt must have two tokens a line")
    pairs = [(row[0], row[1]) for row in rows]
    try:
        tokenizer = Tokenizer(models.BPE(vocab=numbers, merges=pairs, unk_token="<unk>"))  # noqa: S106
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"vocab.json and merges.txt do not fit: {error}"[:300]) from None
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False)


CLAP: Final = Converter(
    "laion_clap's 630k-audioset-fusion-best.pt or transformers' model.safetensors, or the folder that holds it; "
    "RoBERTa's tokenizer.json lies beside it",
    read,
    weight_shapes,
)
