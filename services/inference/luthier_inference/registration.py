"""Registers an operator's weights, after everything about them was compared with their configuration."""

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from luthier_inference.served_models import ServedVersion
from luthier_kit.registry import ModelVersion, register
from luthier_kit.store import Store
from luthier_model import checkpoint, text_encoder
from luthier_model.registered import fetch_configuration, fetch_text_encoder, statuses


class Registrar:
    """Writes model versions. `own_text_encoder` is what weights without a text encoder get."""

    def __init__(self, store: Store, own_text_encoder: Path | None, scratch: Path) -> None:
        self.store, self.own_text_encoder, self.scratch = store, own_text_encoder, scratch
        self._one_at_a_time = threading.Lock()  # a checkpoint may take gigabytes of scratch

    def register(self, version: ModelVersion) -> ServedVersion:
        """The registered version.

        InvalidRequest for an unknown configuration or files that are not what they should be, FailedPrecondition
        CHECKPOINT_MISMATCH or TEXT_ENCODER_MISMATCH when the parts do not fit each other. Headers are compared before
        a tensor is read; then all that will be used must be finite floating-point numbers.
        """
        with statuses():
            configuration = fetch_configuration(self.store, version.configuration)
            with self._one_at_a_time, tempfile.TemporaryDirectory(dir=self.scratch, prefix="register-") as folder:
                given = fetch_text_encoder(self.store, version.text_encoder, Path(folder))
                encoder = text_encoder.check(given or self.own_text_encoder, configuration)
                weights = self.store.blobs.fetch(version.checkpoint, Path(folder))
                layout = checkpoint.verify(weights, configuration)
                checkpoint.check_weights(weights, layout.values())
                if given:
                    text_encoder.check_weights(encoder)
                text_encoder.check_tokenizer(encoder, configuration)
                autoencoder_digest = checkpoint.autoencoder_digest(weights, layout, configuration)
        files = version.text_encoder
        if not files:
            paths = text_encoder.files(encoder)
            files = [(path.name, self.store.blobs.put_file("text-encoders", path)) for path in paths]
        complete = replace(version, text_encoder=tuple(sorted(files)), autoencoder_digest=autoencoder_digest)
        return ServedVersion(register(self.store, complete), configuration)
