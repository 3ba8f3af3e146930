"""The T5 text encoder, from a local folder in the Hugging Face layout. Nothing is ever fetched.

A folder holds `config.json`, `model.safetensors` and a tokenizer (`tokenizer.json`, or `spiece.model` with its
`tokenizer_config.json`). For Stable Audio Open that is the published t5-base; the tiny model brings its own.
"""

import hashlib
import json
import threading
from pathlib import Path
from typing import Final

from stable_audio_tools.models.conditioners import T5Conditioner

from luthier_model import checkpoint
from luthier_model.configuration import Configuration
from luthier_model.errors import CheckpointError, TextEncoderError, TextEncoderMismatch
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
    header of their file.

    TextEncoderMismatch when there is none, a file is absent or it has another width; TextEncoderError when a file is
    not what its name says.
    """
    name, wanted = configuration.text.encoder, text_width(configuration)
    if folder is None:
        raise TextEncoderMismatch(f"this model needs the text encoder {name!r} as a folder of files; none was given")
    files(folder)
    try:
        width = json.loads((folder / CONFIG).read_text())["d_model"]
    except (ValueError, KeyError, TypeError):
        raise TextEncoderError(f"{CONFIG} of the text encoder is not a T5 configuration") from None
    if width != wanted:
        raise TextEncoderMismatch(f"the text encoder is {width} wide, {name!r} must be {wanted}")
    try:
        checkpoint.header(folder / WEIGHTS)
    except CheckpointError as error:
        raise TextEncoderError(f"{WEIGHTS} of the text encoder: {error}") from None
    return folder


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
