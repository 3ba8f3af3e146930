"""Registered model versions: their files on this machine, and what is wrong with them as the platform's errors.

The one module of this library that knows the registry: training and inference open the same
versions, and what is wrong with one must have the same status in both. The rest knows local files only.

Services read configurations without loading torch, which takes seconds and hundreds of MB: what needs it is imported
where it is used.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest, LuthierError
from luthier_kit.store import Store
from luthier_model.configuration import MAX_CONFIGURATION_BYTES, Configuration, read
from luthier_model.errors import (
    AdapterError,
    AdapterMismatch,
    CheckpointError,
    CheckpointMismatch,
    ConfigurationError,
    ModelError,
    OutputNotFinite,
    TextEncoderError,
    TextEncoderMismatch,
    WeightsError,
)

if TYPE_CHECKING:
    from luthier_model.adapters import Adapter

MAX_FILE_NAME_CHARS: Final = 100


@dataclass(frozen=True)
class VersionFiles:
    """A registered version on this machine. `text_encoder` is a folder, None when the version brings none; `adapters`
    belong to these weights, each to what the ones before it make of them.
    """

    configuration: Configuration
    weights: Path
    text_encoder: Path | None
    adapters: tuple[Adapter, ...] = ()


def fetch_version(store: Store, version: ModelVersion, folder: Path) -> VersionFiles:
    """A version's files below `folder`, verified, for reading only: a store in a folder gives its own and copies none.
    Use inside `statuses(version)`.
    """
    return VersionFiles(
        fetch_configuration(store, version.configuration),
        store.blobs.fetch(version.checkpoint, folder, read_only=True),
        fetch_text_encoder(store, version.text_encoder, folder),
        fetch_adapters(store, version, folder),
    )


def fetch_adapters(store: Store, version: ModelVersion, folder: Path) -> tuple[Adapter, ...]:
    """A version's adapters; AdapterMismatch unless each was trained on the version that comes before it."""
    from luthier_model import adapters  # torch

    found: list[Adapter] = []
    for number, known in enumerate(version.adapters):
        adapter = adapters.read(store.blobs.fetch(known.artifact, folder, read_only=True))
        base = replace(version, adapters=version.adapters[:number]).digest
        if adapter.base_digest != base:
            text = f"adapter: it was trained on sha256:{adapter.base_digest}, the weights below it are sha256:{base}"
            raise AdapterMismatch(text)
        found.append(adapter)
    return tuple(found)


def fetch_configuration(store: Store, ref: ArtifactRef) -> Configuration:
    """The configuration in a blob; ConfigurationError when it is not a known one."""
    return read(store.blobs.read(ref, max_bytes=MAX_CONFIGURATION_BYTES))


def fetch_text_encoder(store: Store, files: Iterable[tuple[str, ArtifactRef]], folder: Path) -> Path | None:
    """The text encoder's files under their own names in `<folder>/text_encoder`; None when there are no files.

    TextEncoderMismatch when a name is not a plain file name.
    """
    target = folder / "text_encoder"
    for name, ref in files:
        if Path(name).name != name or len(name) > MAX_FILE_NAME_CHARS:
            raise TextEncoderMismatch(f"the text encoder has a file with a bad name: {name[:80]!r}")
        target.mkdir(parents=True, exist_ok=True)
        shutil.move(store.blobs.fetch(ref, folder, read_only=True), target / name)
    return target if target.exists() else None


class VersionNotUsable(FailedPrecondition):
    """A registered version that this server cannot load as it is set up. Never recorded: another server may."""

    permanent = False


@contextmanager
def statuses(version: ModelVersion | None = None) -> Iterator[None]:
    """A ModelError in the block becomes the platform's error: the one place that says which.

    | | brought by the caller (no `version`) | of a registered `version` |
    |---|---|---|
    | ConfigurationError | INVALID_ARGUMENT CONFIGURATION_INVALID, each field | DATA_LOSS CONFIGURATION_INVALID |
    | CheckpointError | INVALID_ARGUMENT CHECKPOINT_NOT_SAFETENSORS | DATA_LOSS CHECKPOINT_CORRUPT |
    | CheckpointMismatch | FAILED_PRECONDITION CHECKPOINT_MISMATCH | the same |
    | WeightsError | INVALID_ARGUMENT WEIGHTS_NOT_FINITE | DATA_LOSS CHECKPOINT_CORRUPT |
    | TextEncoderError | INVALID_ARGUMENT TEXT_ENCODER_UNREADABLE | DATA_LOSS TEXT_ENCODER_CORRUPT |
    | TextEncoderMismatch | FAILED_PRECONDITION TEXT_ENCODER_MISMATCH | FAILED_PRECONDITION TEXT_ENCODER_UNUSABLE |
    | AdapterError | | DATA_LOSS ADAPTER_CORRUPT |
    | AdapterMismatch | | FAILED_PRECONDITION ADAPTER_MISMATCH |
    | OutputNotFinite | | FAILED_PRECONDITION OUTPUT_NOT_FINITE |
    """
    try:
        yield
    except ModelError as error:
        raise (_of_version(error, version) if version else _of_caller(error)) from None


def _of_caller(error: ModelError) -> LuthierError:
    match error:
        case ConfigurationError():
            violations = [(f"configuration.{field}", what) for field, what in error.violations]
            return InvalidRequest(reason="CONFIGURATION_INVALID", violations=violations)
        case CheckpointError():
            return InvalidRequest(reason="CHECKPOINT_NOT_SAFETENSORS", violations=[("checkpoint", str(error))])
        case WeightsError():
            return InvalidRequest(reason="WEIGHTS_NOT_FINITE", violations=[("checkpoint", str(error))])
        case TextEncoderError():
            return InvalidRequest(reason="TEXT_ENCODER_UNREADABLE", violations=[("text_encoder", str(error))])
        case CheckpointMismatch():
            return FailedPrecondition(str(error), reason="CHECKPOINT_MISMATCH")
        case TextEncoderMismatch():
            return FailedPrecondition(str(error), reason="TEXT_ENCODER_MISMATCH")
    raise error


_CORRUPT: Final[Mapping[type[ModelError], str]] = {
    ConfigurationError: "CONFIGURATION_INVALID",
    CheckpointError: "CHECKPOINT_CORRUPT",
    WeightsError: "CHECKPOINT_CORRUPT",
    AdapterError: "ADAPTER_CORRUPT",
    TextEncoderError: "TEXT_ENCODER_CORRUPT",
}
_NOT_USABLE: Final[Mapping[type[ModelError], str]] = {
    CheckpointMismatch: "CHECKPOINT_MISMATCH",
    AdapterMismatch: "ADAPTER_MISMATCH",
    TextEncoderMismatch: "TEXT_ENCODER_UNUSABLE",
}


def _of_version(error: ModelError, version: ModelVersion) -> LuthierError:
    text, kind = f"model {version.label}: {error}", type(error)
    if kind in _CORRUPT:
        return DataLoss(text, reason=_CORRUPT[kind])
    if kind in _NOT_USABLE:
        return VersionNotUsable(text, reason=_NOT_USABLE[kind])
    if kind is OutputNotFinite:
        return FailedPrecondition(str(error), reason="OUTPUT_NOT_FINITE")
    raise error
