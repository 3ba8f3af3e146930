"""The text encoder, T5 or CLAP's, from a local folder in the Hugging Face layout. Nothing is ever fetched.

A folder holds `config.json`, `model.safetensors` and a tokenizer (`tokenizer.json`; of T5 also `spiece.model` with its
`tokenizer_config.json`). For Stable Audio Open that is the published t5-base; the tiny model brings its own. What is
CLAP's alone is in `clap_text`.
"""

import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5Config, T5EncoderModel

from luthier_kit.bounded_json import check_json, read_json
from luthier_model import checkpoint, clap_text
from luthier_model.clap_text import ClapText
from luthier_model.conditions import CLAP_TEXT
from luthier_model.configuration import Configuration, TextCondition
from luthier_model.errors import CheckpointError, TextEncoderError, TextEncoderMismatch, WeightsError
from luthier_model.library import T5Conditioner
from luthier_model.network import text_width

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
TOKENIZERS: Final = ("tokenizer.json", "spiece.model")
GENERATION: Final = "generation_config.json"
FILES: Final = (
    CONFIG,
    WEIGHTS,
    *TOKENIZERS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    GENERATION,
)
"""The files of a text encoder; what else lies in the folder (pickles, other frameworks' weights) is not read."""
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_TOKENIZER_BYTES: Final = 32 << 20  # T5's own has 2.4 MB
MAX_JSON_DEPTH: Final = 32
BOUNDS: Final = {
    "vocab_size": 1 << 20,
    "d_model": 8192,
    "d_kv": 1024,
    "d_ff": 1 << 16,
    "num_layers": 96,
    "num_heads": 256,
    "relative_attention_num_buckets": 1024,
    "relative_attention_max_distance": 1 << 16,
}
"""Fields of a T5 configuration that are whole numbers, from 1 to this; the largest T5 stays below."""

FEED_FORWARD: Final = "feed_forward_proj"
"""The further field that decides which tensors there are: `relu`, `gated-gelu`, …"""
EPSILON: Final = "layer_norm_epsilon"
NUMBER_FORMATS: Final = ("dtype", "torch_dtype")
"""Names of the field for the format of the numbers, since transformers 5 and before it."""
KNOWN: Final = (*BOUNDS, FEED_FORWARD, EPSILON, *NUMBER_FORMATS)
"""What of a configuration decides what the encoder computes; nothing else of it is read."""
MODEL_TYPES: Final = ("t5", "mt5")
FORMATS: Final = ("float32", "float16", "bfloat16")
REFUSED: Final = ("quantization_config", "auto_map")
"""Fields that say that the weights, or the code, are not T5's own."""
TOKENIZER: Final = "the tokenizer of the text encoder"
PROBES: Final = ("", "Jazz, piano trio, 120 BPM, F major")
"""Prompts that every tokenizer must take: the usual negative prompt, and one of words."""
TOKENS, TOKENS_ALIAS = "shared.weight", "encoder.embed_tokens.weight"
"""The token embeddings' two names; a file may hold either."""

TextConditioner: TypeAlias = T5Conditioner | ClapText

_table = threading.Lock()


def files(folder: Path) -> list[Path]:
    """The files of the text encoder in `folder`; TextEncoderMismatch names what is absent."""
    absent = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in TOKENIZERS):
        absent.append(" or ".join(TOKENIZERS))
    if absent:
        raise TextEncoderMismatch(f"the text encoder's folder lacks {', '.join(absent)}; nothing is downloaded")
    return [folder / name for name in FILES if (folder / name).is_file()]


def digest(folder: Path) -> str:
    """sha256 over the names and contents of the text encoder's files."""
    whole = hashlib.sha256()
    for path in sorted(files(folder)):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.name} {content}\n".encode())
    return whole.hexdigest()


def check(folder: Path | None, configuration: Configuration) -> Path:
    """The folder, when it holds a readable encoder as wide as the configuration says. No weight is read, only the
    header of their file: its tensors must be those of the encoder's own configuration.

    TextEncoderMismatch when there is none, a file is absent or it has another width; TextEncoderError when a file is
    not what its name says.
    """
    name, wanted, is_clap = configuration.text.encoder, text_width(configuration), _is_clap(configuration)
    if folder is None:
        raise TextEncoderMismatch(f"this model needs the text encoder {name!r} as a folder of files; none was given")
    files(folder)
    if is_clap:
        if not (folder / TOKENIZERS[0]).is_file():
            raise TextEncoderMismatch(f"the text encoder's folder lacks {TOKENIZERS[0]}; nothing is downloaded")
        _clap(folder, configuration.text)
    elif (width := _config(folder)["d_model"]) != wanted:
        raise TextEncoderMismatch(f"the text encoder is {width} wide, {name!r} must be {wanted}")
    for path in files(folder):
        if path.suffix == ".json":
            _check_json_file(path)
        elif path.suffix == ".model" and path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise TextEncoderError(f"{path.name} of the text encoder must have at most {MAX_TOKENIZER_BYTES} bytes")
    weights(folder, configuration)
    return folder


def weights(folder: Path, configuration: Configuration) -> list[str]:
    """Names of the encoder's tensors in its weights file; TextEncoderError when they are not its configuration's."""
    try:
        found = checkpoint.header(folder / WEIGHTS)
    except CheckpointError as error:
        raise TextEncoderError(f"{WEIGHTS} of the text encoder: {error}") from None
    if _is_clap(configuration):
        fields, text = _clap(folder, configuration.text), configuration.text
        stored, own = clap_text.stored_names(found, fields, text), clap_text.shapes(fields, text)
        shapes = {stored[name]: shape for name, shape in own.items()}
    else:
        shapes = _t5_shapes(folder)
        if TOKENS not in found:
            shapes[TOKENS_ALIAS] = shapes.pop(TOKENS)
    for name, shape in shapes.items():
        if name not in found:
            raise TextEncoderError(f"{WEIGHTS} of the text encoder lacks {name}")
        if found[name].shape != shape:
            told = f"{name} is {list(found[name].shape)}, {CONFIG} says {list(shape)}"
            raise TextEncoderError(f"{WEIGHTS} of the text encoder: {told}"[:300])
    return sorted(shapes)


def _t5_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    config = _t5(folder)
    with _reading(f"{CONFIG} of the text encoder", folder), torch.device("meta"):
        model = T5EncoderModel(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name != TOKENS_ALIAS}


def check_weights(folder: Path, configuration: Configuration) -> None:
    """TextEncoderError when the encoder's weights are not finite floating-point numbers. Reads the file once."""
    try:
        checkpoint.check_weights(folder / WEIGHTS, weights(folder, configuration))
    except WeightsError as error:
        raise TextEncoderError(f"{WEIGHTS} of the text encoder: {error}") from None


def check_tokenizer(folder: Path, configuration: Configuration) -> None:
    """TextEncoderError when the tokenizer does not turn prompts into tokens of this encoder: it is loaded, and used as
    it is when audio is made.
    """
    _tokenizer(folder, configuration)


def _tokenizer(folder: Path, configuration: Configuration) -> PreTrainedTokenizerBase:
    """The folder's, as `check_tokenizer` says."""
    text = configuration.text
    with _known_files(folder, text) as known, _reading(TOKENIZER, known):
        tokenizer = AutoTokenizer.from_pretrained(str(known), local_files_only=True, trust_remote_code=False)
    vocabulary = _clap(folder, text)["vocab_size"] if _is_clap(configuration) else _t5(folder).vocab_size
    _probe(tokenizer, text.max_tokens, vocabulary)
    return tokenizer


def _probe(tokenizer: PreTrainedTokenizerBase, max_tokens: int, vocabulary: int) -> None:
    """Tokenizes as the conditioner does, and as a prompt's length is counted."""
    with _reading(TOKENIZER):
        encoded = tokenizer(
            list(PROBES), truncation=True, max_length=max_tokens, padding="max_length", return_tensors="pt"
        )
        tokens, mask = encoded["input_ids"], encoded["attention_mask"]  # (prompts, max_tokens) each
        shapes = {tuple(tokens.shape), tuple(mask.shape)}
        counted = [tokenizer(prompt)["input_ids"] for prompt in PROBES]
        highest = max(int(tokens.max()), *tokenizer.get_vocab().values(), *(max(ids, default=0) for ids in counted))
    if shapes != {(len(PROBES), max_tokens)}:
        raise TextEncoderError(f"{TOKENIZER} does not give {max_tokens} tokens for each prompt")
    if highest >= vocabulary:
        text = f"has the token {highest}, {CONFIG} says that there are {vocabulary}"
        raise TextEncoderError(f"{TOKENIZER} {text}")


@contextmanager
def _reading(what: str, folder: Path | None = None) -> Iterator[None]:
    """TextEncoderError for whatever the libraries raise over files that are not what their names say.

    tokenizers raises Exception itself, sentencepiece RuntimeError, protobuf DecodeError, transformers ImportError and
    TypeError among others; a panic of Rust's is no Exception. Paths of this machine are left out of the text.
    """
    try:
        yield
    except (MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        why = why.replace(str(folder), "the folder") if folder else why
        raise TextEncoderError(f"{what} cannot be read: {why}"[:300]) from None


@contextmanager
def _known_files(folder: Path, text: TextCondition) -> Iterator[Path]:
    """A folder of the encoder's files in which the configuration has nothing but what is known.

    transformers makes an attribute of the model of every other field, too: `return_dict`, `is_decoder`,
    `_attn_implementation` or one that it does not know.
    """
    if text.type == CLAP_TEXT:
        config = {"model_type": "roberta", "architectures": ["RobertaModel"], **_clap(folder, text)}
    else:
        config = {"model_type": "t5", "architectures": ["T5EncoderModel"], **_config(folder)}
    with tempfile.TemporaryDirectory(prefix="text-encoder-") as name:
        known = Path(name)
        for path in files(folder):
            if path.name not in (CONFIG, GENERATION):
                (known / path.name).symlink_to(path.resolve())
        (known / CONFIG).write_text(json.dumps(config))
        yield known


def _t5(folder: Path) -> T5Config:
    """The encoder's configuration as transformers has it, its sizes within BOUNDS."""
    fields = _config(folder)
    with _reading(f"{CONFIG} of the text encoder", folder):
        return T5Config(**{name: value for name, value in fields.items() if name not in NUMBER_FORMATS})


def _is_clap(configuration: Configuration) -> bool:
    return configuration.text.type == CLAP_TEXT


def _clap(folder: Path, text: TextCondition) -> dict[str, Any]:
    """The known fields of CLAP's configuration, each within its bound, large enough for what is taken from it."""
    what = f"{CONFIG} of the text encoder"
    document = _document(folder, "CLAP's (a RoBERTa's)")
    if not isinstance(document, dict) or document.get("model_type") not in clap_text.MODEL_TYPES:
        raise TextEncoderError(f"{what} is not CLAP's: model_type must be one of {', '.join(clap_text.MODEL_TYPES)}")
    for field in REFUSED:
        _require(document.get(field) is None, field, document.get(field), "must be absent")
    try:
        fields = clap_text.fields_of(document)
        clap_text.check_condition(fields, text)
    except ValueError as error:
        raise TextEncoderError(f"{what}: {error}"[:300]) from None
    return fields


def _document(folder: Path, whose: str) -> Any:
    data = _bytes_of(folder / CONFIG, MAX_CONFIG_BYTES)
    try:
        return read_json(data, max_bytes=MAX_CONFIG_BYTES, max_depth=MAX_JSON_DEPTH)
    except ValueError as error:
        raise TextEncoderError(f"{CONFIG} of the text encoder is not {whose} configuration: {error}"[:300]) from None


def _config(folder: Path) -> dict[str, Any]:
    """The known fields of a T5 encoder's configuration, each within its bound."""
    config = _document(folder, "a T5")
    if not isinstance(config, dict) or "d_model" not in config or config.get("model_type", "t5") not in MODEL_TYPES:
        raise TextEncoderError(f"{CONFIG} of the text encoder is not a T5 configuration")
    for field, most in BOUNDS.items():
        value = config.get(field, 1)
        whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
        _require(whole, field, value, f"must be a whole number from 1 to {most}")
    epsilon = config.get(EPSILON, 1e-6)
    _require(isinstance(epsilon, float) and 0 < epsilon < 1, EPSILON, epsilon, "must be a number between 0 and 1")
    feed_forward = config.get(FEED_FORWARD, "relu")
    _require(isinstance(feed_forward, str), FEED_FORWARD, feed_forward, "must be a text")
    for field in NUMBER_FORMATS:
        _require(
            config.get(field) in (None, *FORMATS), field, config.get(field), f"must be one of {', '.join(FORMATS)}"
        )
    for field in REFUSED:
        _require(config.get(field) is None, field, config.get(field), "must be absent")
    return {name: config[name] for name in KNOWN if config.get(name) is not None}


def _require(true: bool, field: str, value: object, bound: str) -> None:
    if not true:
        raise TextEncoderError(f"{CONFIG} of the text encoder: {field} {bound}, got {value!r}"[:300])


def _check_json_file(path: Path) -> None:
    most = MAX_TOKENIZER_BYTES if path.name in TOKENIZERS else MAX_CONFIG_BYTES
    try:
        check_json(_bytes_of(path, most), max_bytes=most, max_depth=MAX_JSON_DEPTH)
    except ValueError as error:
        raise TextEncoderError(f"{path.name} of the text encoder {error}"[:300]) from None


def _bytes_of(path: Path, most: int) -> bytes:
    """What there is of a file, but not more than one byte beyond its bound."""
    with path.open("rb") as file:
        return file.read(most + 1)


def conditioner(folder: Path | None, configuration: Configuration) -> TextConditioner:
    """The library's own T5 conditioner over a local folder, or CLAP's; errors as `check` and `check_tokenizer`."""
    checked, text = check(folder, configuration), configuration.text
    if _is_clap(configuration):
        fields, tokenizer = _clap(checked, text), _tokenizer(checked, configuration)
        names = clap_text.stored_names(checkpoint.header(checked / WEIGHTS), fields, text)
        with _reading("the text encoder", checked):
            return clap_text.conditioner(checked / WEIGHTS, fields, names, text, configuration.cond_dim, tokenizer)
    with _known_files(checked, text) as known, _table:  # the library accepts names of a fixed table only, so the folder
        location = str(known)  # becomes one for a moment
        T5Conditioner.T5_MODELS.append(location)
        T5Conditioner.T5_MODEL_DIMS[location] = text_width(configuration)
        try:
            with _reading("the text encoder", known):
                encoder = T5Conditioner(
                    configuration.cond_dim, location, max_length=text.max_tokens, project_out=text.project_out
                )
        finally:
            T5Conditioner.T5_MODELS.remove(location)
            del T5Conditioner.T5_MODEL_DIMS[location]
    _probe(encoder.tokenizer, text.max_tokens, _t5(checked).vocab_size)
    return encoder
