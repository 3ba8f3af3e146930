"""Registers an operator's weights, after everything about them was compared with their configuration."""

import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_inference.catalogue import Profile
from luthier_kit import models
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import FailedPrecondition, InvalidRequest
from luthier_kit.models import ModelVersion
from luthier_model import checkpoint, configuration, text_encoder
from luthier_model.configuration import MAX_DOCUMENT_BYTES, Configuration
from luthier_model.errors import CheckpointError, CheckpointMismatch, ConfigurationError, TextEncoderError

MAX_REGISTERED_BY_CHARS, MAX_REASON_CHARS = 100, 500


class Registrar:
    """Writes model versions. `own_text_encoder` is what weights without a text encoder get."""

    def __init__(self, store: Artifacts, own_text_encoder: Path | None, scratch: Path) -> None:
        self.store, self.own_text_encoder, self.scratch = store, own_text_encoder, scratch
        self._one_at_a_time = threading.Lock()  # a checkpoint may take gigabytes of scratch

    def register(self, version: ModelVersion) -> Profile:
        """The registered version.

        InvalidRequest for an unknown configuration or weights that are no safetensors file, FailedPrecondition
        CHECKPOINT_MISMATCH or TEXT_ENCODER_MISMATCH when the parts do not fit each other. The header is compared
        before a tensor is read, and only the autoencoder's are, for their digest.
        """
        known = self._configuration(version.configuration)
        with self._one_at_a_time, tempfile.TemporaryDirectory(dir=self.scratch, prefix="register-") as name:
            folder = Path(name)
            text = self._text_encoder(dict(version.text_encoder), known, folder)
            codec = self._checked_weights(self.store.fetch(version.checkpoint, folder), known)
        complete = replace(version, text_encoder=tuple(sorted(text.items())), autoencoder_digest=codec)
        return Profile(models.register(self.store, complete), known)

    def _configuration(self, ref: ArtifactRef) -> Configuration:
        try:
            return configuration.read(self.store.read(ref, max_bytes=MAX_DOCUMENT_BYTES))
        except ConfigurationError as error:
            violations = [(f"configuration.{field}", what) for field, what in error.violations]
            raise InvalidRequest(reason="CONFIGURATION_INVALID", violations=violations) from None

    def _checked_weights(self, path: Path, known: Configuration) -> str:
        """Digest of the weights' autoencoder, after all of them were compared with the configuration."""
        try:
            return checkpoint.autoencoder_digest(path, checkpoint.verify(path, known), known)
        except CheckpointMismatch as error:
            raise FailedPrecondition(str(error), reason="CHECKPOINT_MISMATCH") from None
        except CheckpointError as error:
            raise InvalidRequest(reason="CHECKPOINT_NOT_SAFETENSORS", violations=[("checkpoint", str(error))]) from None

    def _text_encoder(
        self, given: Mapping[str, ArtifactRef], known: Configuration, scratch: Path
    ) -> dict[str, ArtifactRef]:
        """The text encoder's files by name, after they were compared with the configuration."""
        folder = self._gathered(given, scratch) if given else self.own_text_encoder
        try:
            text_encoder.check(folder, known)
        except TextEncoderError as error:
            raise FailedPrecondition(str(error), reason="TEXT_ENCODER_MISMATCH") from None
        if given:
            return dict(given)
        files = text_encoder.files(folder) if folder else []
        return {file.name: self.store.put_file("text-encoders", file) for file in files}

    def _gathered(self, given: Mapping[str, ArtifactRef], scratch: Path) -> Path:
        unknown = sorted(set(given) - set(text_encoder.FILES))
        if unknown:
            known = ", ".join(text_encoder.FILES)
            bound = f"names must be of {known}; got {unknown[0][:80]!r}"
            raise InvalidRequest(violations=[("text_encoder", bound)])
        folder = scratch / "text"
        folder.mkdir()
        for name, ref in given.items():
            self.store.fetch(ref, scratch).rename(folder / name)
        return folder
