"""Stored documents: one spelling per message, old forms read, and what is neither refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ArtifactRef, ClipFacts, Lineage, TempoFact
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, SplitFractions
from luthier.enrichment.v1.enrichment_pb2 import ListProvidersResponse, ProviderStatus
from luthier.registry.v1.registry_pb2 import Cancellation
from luthier.training.v1.training_pb2 import LossPoint, TrainingProgress
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest
from luthier_kit.store import (
    MAX_DOCUMENT_BYTES,
    MAX_ENTRY_BYTES,
    FolderStore,
    Store,
    canonical_json,
    digest_of,
    from_json,
    to_json,
)
from tests.support.measure import cost_of


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


# Large documents: row by row

ROWS = [
    DatasetRow(
        clip_id=f"clip-{number}",
        prompts=["Jazz at 120 BPM", 'quoted "\\" [{,}] \u2028 \U0001f3b8', "é" * number],
        facts=ClipFacts(duration_s=30.5, tempo=TempoFact(tempo_bpm=120 + number)),
        lineage=Lineage(versions={"render": "2", "cut": "1"}, seed=2**63 + number),
    )
    for number in range(30)
]
DOCUMENTS: list[Message] = [
    DatasetManifest(name="way", fractions=SplitFractions(train=0.5), moved_songs=["b", "a"], rows=ROWS),
    DatasetManifest(fractions=SplitFractions(), rows=[DatasetRow()]),
    DatasetManifest(name="no rows"),
    TrainingProgress(stage="train", done=2**40, validation=[LossPoint(step=n, loss=n / 3) for n in range(20)]),
    ListProvidersResponse(providers=[ProviderStatus(provider="file")]),
]


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Every document counts as large, and is decoded so many bytes at a time."""

    def of(size_bytes: int) -> None:
        monkeypatch.setattr("luthier_kit.store._documents.LARGE_BYTES", 0)
        monkeypatch.setattr("luthier_kit.store._documents.LARGE_ROWS", 0)
        monkeypatch.setattr("luthier_kit.store._documents._PIECE_BYTES", size_bytes)

    return of


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_row_by_row_the_bytes_and_the_message_are_the_same(document: Message, in_pieces: Callable[[int], None]) -> None:
    whole = to_json(document)
    assert whole == canonical_json(MessageToDict(document, preserving_proto_field_name=True))
    for size_bytes in (*range(1, 40), 1 << 20):
        in_pieces(size_bytes)
        assert to_json(document) == whole
        assert from_json(type(document), whole) == document


def test_row_by_row_spaces_other_names_null_and_unknown_fields_are_read_as_ever(
    in_pieces: Callable[[int], None],
) -> None:
    data = json.dumps(
        {"unknown": [1.5, -2e3, {"a": []}], "rows": [{"clipId": "a"}, {"clip_id": "b", "x": 1}], "movedSongs": ["s"],
         "licences": None, "fractions": {"train": 1}},
        indent=3,
    ).encode()  # fmt: skip
    whole = from_json(DatasetManifest, data)
    assert [row.clip_id for row in whole.rows] == ["a", "b"]
    for size_bytes in range(1, 30):
        in_pieces(size_bytes)
        assert from_json(DatasetManifest, b"\xef\xbb\xbf " + data + b" \n") == whole


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"null", b'"text"', b"{", b'{"rows"', b'{"rows":', b'{"rows":[', b'{"rows":[{}', b'{"rows":[{}]',
        b'{"rows":[{}],}', b'{"rows":[{},]}', b'{"rows":[{} {}]}', b'{"rows":[{}]} x', b'{"rows":[{}]}}', b"{1:2}",
        b'{"rows":[7]}', b'{"rows":[null]}', b'{"rows":[{"clip_id":7}]}', b'{"rows":[{"clip_id":"\xff"}]}',
        b'{"rows":[],"rows":[{}]}', b'{"rows":[{"facts":{"duration_s":NaN}}]}', b'{"name":"a" "rows":[]}',
        b'{"rows":["open]}', b'{"rows":{}}', b'{"name":tru}', b"[" * 100_000, b'{"rows":[' + b"[" * 100,
        rb'{"rows":[{"\ud83d":1}]}', rb'{"rows":[{"clip_id":"\ude00"}]}', rb'{"\ud83d":1}',
    ],
)  # fmt: skip
def test_row_by_row_what_is_no_such_document_is_refused(data: bytes, in_pieces: Callable[[int], None]) -> None:
    in_pieces(3)
    with pytest.raises(ValueError, match=r"not JSON|must nest|not a DatasetManifest|surrogate"):
        from_json(DatasetManifest, data)


def manifest_of(rows: int) -> DatasetManifest:
    return DatasetManifest(rows=[ROWS[number % len(ROWS)] for number in range(rows)])


def test_a_large_document_costs_little_more_than_its_bytes_and_its_message(store: Store) -> None:
    manifest, held = manifest_of(60_000), list[object]()
    data = to_json(manifest)
    assert len(data) > 10 << 20
    as_objects = cost_of(lambda: held.append(json.loads(data)))
    written = cost_of(lambda: to_json(manifest))
    assert written.peak_bytes < len(data) * 1.5 + (16 << 20)
    read = cost_of(lambda: held.append(from_json(DatasetManifest, data)))
    assert held[-1] == manifest
    assert read.peak_bytes < as_objects.peak_bytes * 0.7  # 0.4; of the whole process, in which other threads may work


def test_a_document_that_no_reader_would_take_is_refused_before_it_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier_kit.store._store.MAX_DOCUMENT_BYTES", 2 << 20)
    manifest = manifest_of(60_000)

    def refused() -> None:
        with pytest.raises(FailedPrecondition, match="at most 2097152 bytes, this DatasetManifest has more") as caught:
            store.put("manifests", manifest)
        assert caught.value.reason == "DOCUMENT_TOO_LARGE"

    assert cost_of(refused).peak_bytes < 8 << 20
    assert list(store.objects.keys("manifests/")) == []


def test_a_document_that_is_too_large_to_be_read_is_refused_before_it_is_read(store: Store) -> None:
    ref = ArtifactRef(key=f"manifests/{'ab' * 32}.json", sha256="ab" * 32)
    path = store.objects._path(ref.key)  # type: ignore[attr-defined]
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(MAX_DOCUMENT_BYTES + 1)

    def refused() -> None:
        with pytest.raises(InvalidRequest, match=f"at most {MAX_DOCUMENT_BYTES} bytes") as caught:
            store.get(DatasetManifest, ref)
        assert caught.value.reason == "ARTIFACT_TOO_LARGE"

    assert cost_of(refused).peak_bytes < 8 << 20
