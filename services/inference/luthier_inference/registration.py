"""Registers an operator's weights, after everything about them was compared with their configuration."""

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from luthier_inference.served_models import ServedVersion
from luthier_kit import models
from luthier_kit.artifacts import Artifacts
from luthier_kit.models import ModelVersion
from luthier_model import checkpoint, configuration, text_encoder
from luthier_model.configuration import MAX_DOCUMENT_BYTES
from luthier_model.loading import fetch_text_encoder, statuses


class Registrar:
    """Writes model versions. `own_text_encoder` is what weights without a text encoder get."""

    def __init__(self, store: Artifacts, own_text_encoder: Path | None, scratch: Path) -> None:
        self.store, self.own_text_encoder, self.scratch = store, own_text_encoder, scratch
        self._one_at_a_time = threading.Lock()  # a checkpoint may take gigabytes of scratch

    def register(self, version: ModelVersion) -> ServedVersion:
        """The registered version.

        InvalidRequest for an unknown configuration or files that are not what they should be, FailedPrecondition
        CHECKPOINT_MISMATCH or TEXT_ENCODER_MISMATCH when the parts do not fit each other. Headers are compared before
        a tensor is read, and only the autoencoder's are, for their digest.
        """
        with statuses():
            known = configuration.read(self.store.read(version.configuration, max_bytes=MAX_DOCUMENT_BYTES))
            with self._one_at_a_time, tempfile.TemporaryDirectory(dir=self.scratch, prefix="register-") as folder:
                given = fetch_text_encoder(self.store, version.text_encoder, Path(folder))
                encoder = text_encoder.check(given or self.own_text_encoder, known)
                weights = self.store.fetch(version.checkpoint, Path(folder))
                digest = checkpoint.autoencoder_digest(weights, checkpoint.verify(weights, known), known)
        files = version.text_encoder
        if not files:
            files = [(file.name, self.store.put_file("text-encoders", file)) for file in text_encoder.files(encoder)]
        complete = replace(version, text_encoder=tuple(sorted(files)), autoencoder_digest=digest)
        return ServedVersion(models.register(self.store, complete), known)
