"""Registers an operator's weights, after everything about them was compared with their configuration."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from luthier_inference.served_models import ServedVersion
from luthier_kit.registry import ModelVersion, register
from luthier_kit.rpc import Busy, Cancelled
from luthier_kit.store import Store
from luthier_model import checkpoint, text_encoder
from luthier_model.registered import fetch_configuration, fetch_text_encoder, statuses

PLACES: Final = 2  # one registers, one waits
RETRY_AFTER_S: Final = 10.0
LOOK_EVERY_S: Final = 0.5  # whether the caller of the one that waits is still there


class Registrar:
    """Writes model versions. `own_text_encoder` is what weights without a text encoder get.

    To register reads all weights, gigabytes, beside the generations: it takes none of their slots, which are a GPU's,
    and has bounds of its own. One works and one waits, however many call.
    """

    def __init__(self, store: Store, own_text_encoder: Path | None, scratch: Path) -> None:
        self.store, self.own_text_encoder, self.scratch = store, own_text_encoder, scratch
        self._places, self._one_at_a_time = threading.BoundedSemaphore(PLACES), threading.Lock()

    def register(self, version: ModelVersion, stop: threading.Event) -> ServedVersion:
        """The registered version. Busy when one is being registered and another waits, Cancelled by `stop`.

        InvalidRequest for an unknown configuration or files that are not what they should be, FailedPrecondition
        CHECKPOINT_MISMATCH or TEXT_ENCODER_MISMATCH when the parts do not fit each other. Headers are compared before
        a tensor is read; then all that will be used must be finite floating-point numbers.
        """
        with self._admitted(stop), statuses():
            configuration = fetch_configuration(self.store, version.configuration)
            with tempfile.TemporaryDirectory(dir=self.scratch, prefix="register-") as folder:
                given = fetch_text_encoder(self.store, version.text_encoder, Path(folder))
                encoder = text_encoder.check(given or self.own_text_encoder, configuration)
                weights = self.store.blobs.fetch(version.checkpoint, Path(folder), read_only=True)
                layout = checkpoint.verify(weights, configuration)
                checkpoint.check_weights(weights, layout.values())
                if given:
                    text_encoder.check_weights(encoder, configuration)
                text_encoder.check_tokenizer(encoder, configuration)
                autoencoder_digest = checkpoint.autoencoder_digest(weights, layout, configuration)
        files = version.text_encoder
        if not files:
            paths = text_encoder.files(encoder)
            files = [(path.name, self.store.blobs.put_file("text-encoders", path)) for path in paths]
        complete = replace(version, text_encoder=tuple(sorted(files)), autoencoder_digest=autoencoder_digest)
        return ServedVersion(register(self.store, complete), configuration)

    @contextmanager
    def _admitted(self, stop: threading.Event) -> Iterator[None]:
        """One at a time."""
        if not self._places.acquire(blocking=False):
            text = "a model is being registered here and another waits"
            raise Busy(text, reason="REGISTRATION_BUSY", retry_after_s=RETRY_AFTER_S)
        try:
            while not self._one_at_a_time.acquire(timeout=LOOK_EVERY_S):
                if stop.is_set():
                    raise Cancelled("the caller went away before its turn to register")
            try:
                yield
            finally:
                self._one_at_a_time.release()
        finally:
            self._places.release()
