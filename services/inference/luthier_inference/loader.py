"""From a registered version to a model on the device."""

import shutil
import tempfile
from pathlib import Path

import torch

from luthier_inference.catalogue import Profile
from luthier_inference.devices import keep_times_exact
from luthier_inference.generation import Model
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import DataLoss, FailedPrecondition
from luthier_kit.models import ModelVersion
from luthier_model import loading
from luthier_model.errors import CheckpointError, CheckpointMismatch, TextEncoderError


class NotUsable(FailedPrecondition):
    """A registered model that this server cannot load as it is set up. Never recorded: another server may."""

    permanent = False


class Loader:
    """Loads versions from a store. Files lie in `scratch` only while they are read."""

    def __init__(
        self, store: Artifacts, device: torch.device, precision: str, text_encoder: Path | None, scratch: Path
    ) -> None:
        self.store, self.device, self.precision = store, device, precision
        self.text_encoder, self.scratch = text_encoder, scratch

    def __call__(self, profile: Profile) -> Model:
        """DataLoss when the stored bytes are corrupt, NotUsable when they do not fit together."""
        version = profile.version
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="model-") as name:
            folder = Path(name)
            weights = self.store.fetch(version.checkpoint, folder)
            text = text_folder(self.store, version, folder) or self.text_encoder
            try:
                network = loading.load(profile.configuration, weights, text, str(self.device))
            except CheckpointMismatch as error:
                raise NotUsable(f"model {version.label}: {error}", reason="CHECKPOINT_MISMATCH") from None
            except TextEncoderError as error:
                raise NotUsable(f"model {version.label}: {error}", reason="TEXT_ENCODER_UNUSABLE") from None
            except CheckpointError as error:
                raise DataLoss(f"model {version.label}: {error}", reason="CHECKPOINT_CORRUPT") from None
        keep_times_exact(network)
        return Model(network, profile.configuration, self.device, self.precision)


def text_folder(store: Artifacts, version: ModelVersion, scratch: Path) -> Path | None:
    """The version's text encoder as a folder of files under their own names; None when it brings none."""
    if not version.text_encoder:
        return None
    folder = scratch / "text"
    folder.mkdir()
    for name, ref in version.text_encoder:
        shutil.move(store.fetch(ref, scratch), folder / name)
    return folder
