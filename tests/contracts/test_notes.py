"""Notes, the same in a folder and in S3: documents that a later one replaces."""

from luthier.pipeline.v1.pipeline_pb2 import SongRecord
from luthier_kit.store import Store

KEY = "songs/book/one.json"


def test_a_note_is_replaced_by_a_later_one(store: Store) -> None:
    assert store.note(SongRecord, KEY) is None
    for question in ("first", "second"):
        store.put_note(KEY, SongRecord(question=question, answers=3))
    assert store.note(SongRecord, KEY) == SongRecord(question="second", answers=3)
    assert list(store.objects.keys("songs/")) == [KEY]


def test_what_is_no_such_document_is_no_note(store: Store) -> None:
    for number, data in enumerate([b"", b"{", b"[1]", b'{"answers": "many"}']):
        store.objects.create(f"songs/book/{number}.json", data)
        assert store.note(SongRecord, f"songs/book/{number}.json") is None
