"""A manifest is refused by the row that is wrong."""

import json

import pytest

from luthier_kit.errors import InvalidRequest
from luthier_training.dataset import parse, registered_as

from .conftest import PROMPTS, manifest


@pytest.fixture
def document(store, tmp_path):
    return json.loads(manifest(store, tmp_path))


def test_clips_come_with_their_split_and_prompts(document):
    dataset = parse(json.dumps(document).encode())
    assert [clip.split for clip in dataset.clips] == ["train", "train", "validation"]
    assert dataset.split("validation")[0].prompts == (PROMPTS[2], PROMPTS[2].upper())
    assert dataset.licences == ("CC0-1.0",)


def test_a_data_set_is_known_by_the_first_number_it_was_registered_under(store):
    for digest in ("a", "b", "a"):
        store.append("datasets/three", {"manifest": {"sha256": digest}})
    assert registered_as(store, "three", "a") == "three@1"
    assert registered_as(store, "three", "b") == "three@2"
    assert registered_as(store, "three", "c") == "three"
    assert registered_as(store, "../nobody", "a") == "../nobody"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b"[" * 10_000, b'{"format": "luthier.dataset.v1", "rows": []}']
)
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(InvalidRequest) as refused:
        parse(data)
    assert refused.value.reason == "DATASET_INVALID"


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompts", []), ("prompts", [" "]), ("prompts", ["x" * 3000]), ("audio", "x"), ("split", None), ("clip_id", 3)],
)
def test_a_bad_row_is_named(document, field, value):
    document["rows"][1][field] = value
    with pytest.raises(InvalidRequest) as refused:
        parse(json.dumps(document).encode())
    assert f"rows[1].{field}" in dict(refused.value.violations)


def test_a_song_in_two_splits_is_refused(document):
    document["rows"][2]["song_fingerprint"] = "song0"
    with pytest.raises(InvalidRequest, match="song0 is in the train and the validation split"):
        parse(json.dumps(document).encode())


def test_without_validation_clips_it_is_refused(document):
    document["rows"].pop()
    with pytest.raises(InvalidRequest, match="no clip in the validation split"):
        parse(json.dumps(document).encode())
