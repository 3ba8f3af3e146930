"""A manifest is refused by the row that is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetVersion
from luthier_kit.rpc import TRAIN, VALIDATION, InvalidRequest
from luthier_kit.store import Store
from luthier_training.dataset import prompts_of, read_manifest, registered_name, rows_of

from .conftest import PROMPTS, manifest

STORED = Path(__file__).parent / "stored"


@pytest.fixture
def document(store: Store, tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(manifest(store, tmp_path))
    return found


@pytest.fixture
def read(store: Store) -> Callable[[Any], DatasetManifest]:
    def of(data: Any) -> DatasetManifest:
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        return read_manifest(store, store.blobs.put_bytes("manifests", data, "json"))

    return of


def test_clips_come_with_their_split_and_prompts(
    read: Callable[[Any], DatasetManifest], document: dict[str, Any]
) -> None:
    dataset = read(document)
    assert [row.split for row in dataset.rows] == ["train", "train", "validation"]
    assert list(rows_of(dataset, VALIDATION)[0].prompts) == [PROMPTS[2], PROMPTS[2].upper()]
    assert prompts_of(rows_of(dataset, TRAIN)) == sorted(word for p in PROMPTS[:2] for word in (p, p.upper()))
    assert list(dataset.licences) == ["CC0-1.0"]


def test_a_manifest_that_release_0_1_exported_is_read(read: Callable[[Any], DatasetManifest]) -> None:
    """`stored/manifest.json` is what curation 0.1 wrote, byte for byte."""
    dataset = read((STORED / "manifest.json").read_bytes())
    assert (dataset.name, [row.split for row in dataset.rows]) == ("demo", ["validation", "train", "train"])
    assert dataset.rows[0].audio.sha256.startswith("25d074e2")
    assert dataset.rows[0].prompts == ["A calm rock song with piano and drums in C major at 120 BPM"]


def test_a_data_set_is_known_by_the_first_number_it_was_registered_under(store: Store) -> None:
    series = store.series(DatasetVersion, "datasets/three")
    for digest in ("a", "b", "a"):
        series.append(DatasetVersion(manifest=ArtifactRef(sha256=digest)))
    assert registered_name(store, "three", "a") == "three@1"
    assert registered_name(store, "three", "b") == "three@2"
    assert registered_name(store, "three", "c") == "three"
    assert registered_name(store, "../nobody", "a") == "../nobody"


def test_a_registration_of_release_0_1_is_read(store: Store) -> None:
    store.objects.create("datasets/demo/1.json", (STORED / "dataset_version.json").read_bytes())
    digest = json.loads((STORED / "dataset_version.json").read_text())["document"]["manifest"]["sha256"]
    assert registered_name(store, "demo", digest) == "demo@1"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b"[" * 10_000, b'{"format": "luthier.dataset.v1", "rows": []}']
)
def test_what_is_no_manifest_is_refused(read: Callable[[Any], DatasetManifest], data: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(data)
    assert refused.value.reason == "DATASET_INVALID"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompts", []),
        ("prompts", [" "]),
        ("prompts", ["x" * 3000]),
        ("audio", "x"),
        ("audio", {"key": "clips/x.flac"}),
        ("split", None),
        ("song_fingerprint", ""),
    ],
)
def test_a_bad_row_is_named(
    read: Callable[[Any], DatasetManifest], document: dict[str, Any], field: str, value: Any
) -> None:
    document["rows"][1][field] = value
    with pytest.raises(InvalidRequest) as refused:
        read(document)
    assert f"rows[1].{field}" in str(refused.value)
    assert refused.value.reason == "DATASET_INVALID"


def test_a_field_of_another_type_is_named(read: Callable[[Any], DatasetManifest], document: dict[str, Any]) -> None:
    document["rows"][1]["clip_id"] = 3
    with pytest.raises(InvalidRequest, match=r"rows field: .*clip_id field") as refused:
        read(document)
    assert refused.value.reason == "DATASET_INVALID"


def test_a_song_in_two_splits_is_refused(read: Callable[[Any], DatasetManifest], document: dict[str, Any]) -> None:
    document["rows"][2]["song_fingerprint"] = "song0"
    with pytest.raises(InvalidRequest, match="song0 is in the train and the validation split"):
        read(document)


def test_a_near_duplicate_in_the_other_split_is_refused(
    read: Callable[[Any], DatasetManifest], document: dict[str, Any]
) -> None:
    train = next(row for row in document["rows"] if row["split"] == "train")
    validation = next(row for row in document["rows"] if row["split"] == "validation")
    validation["source"] = {"related_fingerprints": [train["song_fingerprint"]]}
    with pytest.raises(InvalidRequest, match="near-duplicate"):
        read(document)


def test_without_validation_clips_it_is_refused(
    read: Callable[[Any], DatasetManifest], document: dict[str, Any]
) -> None:
    document["rows"].pop()
    with pytest.raises(InvalidRequest, match="no clip in the validation split"):
        read(document)
