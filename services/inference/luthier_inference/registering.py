"""Registers an operator's weights, after everything about them was compared with their configuration."""

import tempfile
from collections.abc import Mapping
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

    def register(self, version: ModelVersion) -> Profile:
        """The registered version.

        InvalidRequest for an unknown configuration or weights that are no safetensors file, FailedPrecondition
        CHECKPOINT_MISMATCH or TEXT_ENCODER_MISMATCH when the parts do not fit each other. Reads the checkpoint's
        header and no more of its tensors than the digest takes.
        """
        known = self._configuration(version.configuration)
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="register-") as name:
            folder = Path(name)
            text = self._text_encoder(dict(version.text_encoder), known, folder)
            self._check_weights(self.store.fetch(version.checkpoint, folder), known)
        files = {**version.__dict__, "text_encoder": tuple(sorted(text.items()))}
        return Profile(models.register(self.store, ModelVersion(**files)), known)

    def _configuration(self, ref: ArtifactRef) -> Configuration:
        try:
            return configuration.read(self.store.read(ref, max_bytes=MAX_DOCUMENT_BYTES))
        except ConfigurationError as error:
            violations = [(f"configuration.{field}", what) for field, what in error.violations]
            raise InvalidRequest(reason="CONFIGURATION_INVALID", violations=violations) from None

    def _check_weights(self, path: Path, known: Configuration) -> None:
        try:
            checkpoint.verify(path, known)
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
