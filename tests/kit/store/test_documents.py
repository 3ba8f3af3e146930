"""Stored documents: one spelling per message, old forms read, and what is neither refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier.registry.v1.registry_pb2 import Cancellation
from luthier.training.v1.training_pb2 import LossPoint, TrainingProgress
from luthier_kit.rpc import DataLoss, InvalidRequest
from luthier_kit.store import (
    MAX_ENTRY_BYTES,
    FolderStore,
    Store,
    canonical_json,
    digest_of,
    from_json,
    to_json,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(FolderStore(tmp_path, "luthier"))
    store.objects.ensure_bucket(create=True)
    return store


def old_cancellation(value: Mapping[str, Any]) -> Cancellation | None:
    return Cancellation(requested_by=value["by"]) if "by" in value else None


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": [True, None, "Ä", 0.1]}) == '{"a":[true,null,"Ä",0.1],"b":1}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_a_digest_is_of_that_spelling() -> None:
    """`printf '{"a":1,"b":2}' | sha256sum`"""
    assert digest_of({"b": 2, "a": 1}) == "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"


def test_a_message_is_stored_under_the_names_of_its_fields() -> None:
    progress = TrainingProgress(stage="train", done=2**40, validation=[LossPoint(step=1, loss=0.5)])
    assert to_json(progress) == b'{"done":"1099511627776","stage":"train","validation":[{"loss":0.5,"step":1}]}'
    assert from_json(TrainingProgress, to_json(progress)) == progress


def test_fields_of_a_later_version_are_left_out() -> None:
    assert from_json(Cancellation, b'{"reason": "why", "mood": "bad"}') == Cancellation(reason="why")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"text"', b'{"reason": 7}', b"\xff", b"[" * 100_000])
def test_what_is_no_such_document_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not JSON|must nest|not a Cancellation"):
        from_json(Cancellation, data)


def test_a_document_from_before_is_read_by_its_old_form() -> None:
    assert from_json(Cancellation, b'{"by": "ann"}', old_cancellation) == Cancellation(requested_by="ann")
    assert from_json(Cancellation, b'{"requested_by": "ann"}', old_cancellation) == Cancellation(requested_by="ann")
    with pytest.raises(ValueError, match="not a Cancellation"):
        from_json(Cancellation, b'{"by": 7}', old_cancellation)


def test_equal_documents_are_one_blob(store: Store) -> None:
    manifest = DatasetManifest(name="way")
    ref = store.put("datasets", manifest)
    assert (ref.key, ref.media_type) == (f"datasets/{ref.sha256}.json", "application/json")
    assert store.put("datasets", manifest) == ref
    assert store.get(DatasetManifest, ref) == manifest


def test_a_blob_that_is_no_such_document_is_refused_with_the_reader_s_reason(store: Store) -> None:
    ref = store.blobs.put_bytes("datasets", b"music", "json")
    with pytest.raises(InvalidRequest, match="not JSON") as caught:
        store.get(DatasetManifest, ref, reason="MANIFEST_INVALID")
    assert caught.value.reason == "MANIFEST_INVALID"


def test_an_old_blob_is_read_by_its_old_form(store: Store) -> None:
    ref = store.blobs.put_bytes("notes", b'{"by": "ann"}', "json")
    assert store.get(Cancellation, ref, old_form=old_cancellation).requested_by == "ann"


# Entries of series


@pytest.mark.parametrize(
    "data",
    [
        b"music",
        b"[]",
        b"{}",
        b'{"commit": "c"}',
        b'{"document": 7}',
        b'{"document": null}',
        b'{"document": {"@type": "type.googleapis.com/luthier.registry.v1.Heartbeat"}}',
        b'{"document": {"@type": "type.googleapis.com/luthier.registry.v1.Cancellation", "reason": 7}}',
    ],
)
def test_an_object_that_is_no_entry_of_the_series_is_data_loss(store: Store, data: bytes) -> None:
    store.objects.create("runs/a/1.json", data)
    with pytest.raises(DataLoss) as caught:
        store.series(Cancellation, "runs/a").latest()
    assert caught.value.reason == "ENTRY_CORRUPT"


def test_an_entry_is_bounded(store: Store) -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_ENTRY_BYTES} bytes"):
        store.series(ArtifactRef, "runs/a").append(ArtifactRef(key="x" * MAX_ENTRY_BYTES))
