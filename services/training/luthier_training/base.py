"""The model version that a run starts from, fetched and compared with its configuration."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import FailedPrecondition
from luthier_kit.models import ModelVersion
from luthier_model import checkpoint, text_encoder
from luthier_model.configuration import MAX_DOCUMENT_BYTES, Configuration, read
from luthier_model.errors import CheckpointError, CheckpointMismatch, ConfigurationError, ModelError, TextEncoderError
from luthier_model.loading import load

REASONS: dict[type[ModelError], str] = {
    ConfigurationError: "MODEL_CONFIGURATION_INVALID",
    CheckpointError: "CHECKPOINT_UNREADABLE",
    CheckpointMismatch: "CHECKPOINT_MISMATCH",
    TextEncoderError: "TEXT_ENCODER_INVALID",
}
MAX_FILE_NAME_CHARS = 100


@dataclass(frozen=True)
class Base:
    """A base model: its registration, its files here, and the digests that name what is encoded with it."""

    version: ModelVersion
    configuration: Configuration
    model: ConditionedDiffusionModelWrapper
    autoencoder_digest: str
    text_encoder_digest: str


@contextmanager
def refusals(version: ModelVersion) -> Iterator[None]:
    """What is wrong with a model becomes FailedPrecondition with the reason of its kind."""
    try:
        yield
    except ModelError as e:
        raise FailedPrecondition(f"model {version.label}: {e}", reason=REASONS[type(e)]) from None


def open_base(store: Artifacts, version: ModelVersion, device: str, scratch: Path) -> Base:
    """Fetches a version and loads it. FailedPrecondition CHECKPOINT_MISMATCH before anything is allocated."""
    with refusals(version):
        configuration = read(store.read(version.configuration, max_bytes=MAX_DOCUMENT_BYTES))
        weights = store.fetch(version.checkpoint, scratch)
        placed = checkpoint.verify(weights, configuration)
        folder = fetch_text_encoder(store, version, scratch / "text_encoder")
        model = load(configuration, weights, folder, device)
        codec = checkpoint.autoencoder_digest(weights, placed, configuration)
        return Base(version, configuration, model, codec, text_encoder.digest(folder))


def fetch_text_encoder(store: Artifacts, version: ModelVersion, folder: Path) -> Path:
    """The text encoder's files under their own names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, ref in version.text_encoder:
        if Path(name).name != name or len(name) > MAX_FILE_NAME_CHARS:
            raise TextEncoderError(f"the text encoder has a file with a bad name: {name[:80]!r}")
        fetched = store.fetch(ref, folder)
        shutil.move(fetched, folder / name)
    return folder
