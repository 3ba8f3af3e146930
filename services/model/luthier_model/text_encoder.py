"""The T5 text encoder, from a local folder in the Hugging Face layout. Nothing is ever fetched.

A folder holds `config.json`, `model.safetensors` and a tokenizer (`tokenizer.json`, or `spiece.model` with its
`tokenizer_config.json`). For Stable Audio Open that is the published t5-base; the tiny model brings its own.
"""

import hashlib
import threading
from pathlib import Path
from typing import Any, Final

import torch
from stable_audio_tools.models.conditioners import T5Conditioner
from transformers import T5Config, T5EncoderModel

from luthier_kit.bounded_json import check_json, read_json
from luthier_model import checkpoint
from luthier_model.configuration import Configuration
from luthier_model.errors import CheckpointError, TextEncoderError, TextEncoderMismatch, WeightsError
from luthier_model.network import text_width

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
TOKENIZERS: Final = ("tokenizer.json", "spiece.model")
FILES: Final = (
    CONFIG,
    WEIGHTS,
    *TOKENIZERS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
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
}
"""Fields of a T5 configuration that decide its size, each a whole number from 1 to this; the largest T5 stays below."""

FEED_FORWARD: Final = "feed_forward_proj"
"""The further field that decides which tensors there are: `relu`, `gated-gelu`, …"""
SHAPING: Final = (*BOUNDS, FEED_FORWARD)
TOKENS, TOKENS_ALIAS = "shared.weight", "encoder.embed_tokens.weight"
"""The token embeddings' two names; a file may hold either."""

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
    name, wanted = configuration.text.encoder, text_width(configuration)
    if folder is None:
        raise TextEncoderMismatch(f"this model needs the text encoder {name!r} as a folder of files; none was given")
    files(folder)
    config = _config(folder)
    if config["d_model"] != wanted:
        raise TextEncoderMismatch(f"the text encoder is {config['d_model']} wide, {name!r} must be {wanted}")
    for path in files(folder):
        if path.suffix == ".json":
            _check_json_file(path)
        elif path.suffix == ".model" and path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise TextEncoderError(f"{path.name} of the text encoder must have at most {MAX_TOKENIZER_BYTES} bytes")
    weights(folder)
    return folder


def weights(folder: Path) -> list[str]:
    """Names of the encoder's tensors in its weights file; TextEncoderError when they are not its configuration's."""
    config = _config(folder)
    try:
        found = checkpoint.header(folder / WEIGHTS)
    except CheckpointError as error:
        raise TextEncoderError(f"{WEIGHTS} of the text encoder: {error}") from None
    try:
        with torch.device("meta"):
            model = T5EncoderModel(T5Config(**{name: config[name] for name in SHAPING if name in config}))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise TextEncoderError(f"{CONFIG} of the text encoder is not a T5 configuration: {error}"[:300]) from None
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name != TOKENS_ALIAS}
    if TOKENS not in found:
        shapes[TOKENS_ALIAS] = shapes.pop(TOKENS)
    for name, shape in shapes.items():
        if name not in found:
            raise TextEncoderError(f"{WEIGHTS} of the text encoder lacks {name}")
        if found[name].shape != shape:
            text = f"{name} is {list(found[name].shape)}, {CONFIG} says {list(shape)}"
            raise TextEncoderError(f"{WEIGHTS} of the text encoder: {text}"[:300])
    return sorted(shapes)


def check_weights(folder: Path) -> None:
    """TextEncoderError when the encoder's weights are not finite floating-point numbers. Reads the file once."""
    try:
        checkpoint.check_weights(folder / WEIGHTS, weights(folder))
    except WeightsError as error:
        raise TextEncoderError(f"{WEIGHTS} of the text encoder: {error}") from None


def _config(folder: Path) -> dict[str, Any]:
    """The encoder's configuration, with sizes within BOUNDS."""
    path = folder / CONFIG
    try:
        config = read_json(_bytes_of(path, MAX_CONFIG_BYTES), max_bytes=MAX_CONFIG_BYTES, max_depth=MAX_JSON_DEPTH)
    except ValueError as error:
        raise TextEncoderError(f"{CONFIG} of the text encoder is not a T5 configuration: {error}"[:300]) from None
    if not isinstance(config, dict) or "d_model" not in config:
        raise TextEncoderError(f"{CONFIG} of the text encoder is not a T5 configuration")
    for field, most in BOUNDS.items():
        value = config.get(field, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            text = f"{field} must be a whole number from 1 to {most}, got {value!r}"
            raise TextEncoderError(f"{CONFIG} of the text encoder: {text}"[:300])
    if not isinstance(config.get(FEED_FORWARD, ""), str):
        raise TextEncoderError(f"{CONFIG} of the text encoder: {FEED_FORWARD} must be a text")
    return config


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


def conditioner(folder: Path | None, configuration: Configuration) -> T5Conditioner:
    """stable-audio-tools' own T5 conditioner over a local folder; errors as `check`."""
    location, text = str(check(folder, configuration)), configuration.text
    with _table:  # the library accepts names of a fixed table only, so the folder becomes one for a moment
        T5Conditioner.T5_MODELS.append(location)
        T5Conditioner.T5_MODEL_DIMS[location] = text_width(configuration)
        try:
            return T5Conditioner(
                configuration.cond_dim, location, max_length=text.max_tokens, project_out=text.project_out
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise TextEncoderError(f"the text encoder cannot be read: {error}"[:300]) from None
        finally:
            T5Conditioner.T5_MODELS.remove(location)
            del T5Conditioner.T5_MODEL_DIMS[location]
