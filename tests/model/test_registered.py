"""A registered version comes from the store as it was registered; what is wrong with one has its status."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest, LuthierError
from luthier_kit.store import Store
from luthier_model import text_encoder
from luthier_model.configuration import Configuration
from luthier_model.errors import (
    CheckpointError,
    CheckpointMismatch,
    ConfigurationError,
    ModelError,
    OutputNotFinite,
    TextEncoderError,
    TextEncoderMismatch,
)
from luthier_model.registered import fetch_version, statuses
from tests.support.services import temp_store


def version_of(store: Store, known: Configuration, files: tuple[Path, Path]) -> ModelVersion:
    paths = text_encoder.files(files[1])
    return ModelVersion(
        name="tiny",
        checkpoint=store.blobs.put_file("checkpoints", files[0]),
        configuration=store.blobs.put_bytes("configurations", json.dumps(dict(known.document)).encode(), "json"),
        text_encoder=[(path.name, store.blobs.put_file("text-encoders", path)) for path in paths],
    )


def test_a_registered_version_comes_back_as_its_files(
    known: Configuration, files: tuple[Path, Path], tmp_path: Path
) -> None:
    with temp_store(tmp_path / "store") as store:
        fetched = fetch_version(store, version_of(store, known, files), tmp_path / "fetched")

    assert fetched.configuration == known
    assert fetched.weights.read_bytes() == files[0].read_bytes()
    assert fetched.text_encoder
    assert text_encoder.digest(fetched.text_encoder) == text_encoder.digest(files[1])


def test_a_version_without_a_text_encoder_has_none(
    known: Configuration, files: tuple[Path, Path], tmp_path: Path
) -> None:
    with temp_store(tmp_path / "store") as store:
        version = replace(version_of(store, known, files), text_encoder=())

        assert fetch_version(store, version, tmp_path / "fetched").text_encoder is None


@pytest.mark.parametrize("name", ["../evil", "a/b", "x" * 101])
def test_a_text_encoder_file_with_a_bad_name_is_not_written(
    known: Configuration, files: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    with temp_store(tmp_path / "store") as store:
        version = version_of(store, known, files)
        version = replace(version, text_encoder=[(name, version.text_encoder[0][1])])
        with pytest.raises(TextEncoderMismatch, match="bad name"):
            fetch_version(store, version, tmp_path / "fetched")


MISMATCH = CheckpointMismatch(["a"], [], [])
CONFIGURATION = ConfigurationError([("sample_rate", "is missing")])


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (CONFIGURATION, InvalidRequest, "CONFIGURATION_INVALID"),
        (CheckpointError("x"), InvalidRequest, "CHECKPOINT_NOT_SAFETENSORS"),
        (MISMATCH, FailedPrecondition, "CHECKPOINT_MISMATCH"),
        (TextEncoderError("x"), InvalidRequest, "TEXT_ENCODER_UNREADABLE"),
        (TextEncoderMismatch("x"), FailedPrecondition, "TEXT_ENCODER_MISMATCH"),
    ],
)
def test_what_a_caller_brings_is_the_callers_to_mend(error: ModelError, kind: type[LuthierError], reason: str) -> None:
    with pytest.raises(kind) as refused, statuses():
        raise error

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (CONFIGURATION, DataLoss, "CONFIGURATION_INVALID"),
        (CheckpointError("x"), DataLoss, "CHECKPOINT_CORRUPT"),
        (MISMATCH, FailedPrecondition, "CHECKPOINT_MISMATCH"),
        (TextEncoderError("x"), DataLoss, "TEXT_ENCODER_CORRUPT"),
        (TextEncoderMismatch("x"), FailedPrecondition, "TEXT_ENCODER_UNUSABLE"),
    ],
)
def test_corrupt_bytes_of_a_registered_version_are_data_loss_and_name_it(
    error: ModelError, kind: type[LuthierError], reason: str
) -> None:
    ref = ArtifactRef()
    with pytest.raises(kind, match=r"^model mine@3: ") as refused, statuses(ModelVersion("mine", ref, ref, n=3)):
        raise error

    assert refused.value.reason == reason
    assert not refused.value.permanent  # another server, or the mended store, may serve it


def test_output_that_is_not_finite_is_refused_for_good() -> None:
    ref = ArtifactRef()
    with pytest.raises(FailedPrecondition) as refused, statuses(ModelVersion("mine", ref, ref, n=3)):
        raise OutputNotFinite("x")

    assert (refused.value.reason, refused.value.permanent) == ("OUTPUT_NOT_FINITE", True)


def test_every_model_error_has_a_status() -> None:
    ref = ArtifactRef()
    arguments: dict[type[ModelError], tuple[Any, ...]] = {ConfigurationError: ([],), CheckpointMismatch: ([], [], [])}
    for kind in ModelError.__subclasses__():
        with pytest.raises((DataLoss, FailedPrecondition)), statuses(ModelVersion("mine", ref, ref, n=3)):
            raise kind(*arguments.get(kind, ("x",)))
