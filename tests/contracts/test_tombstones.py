"""Takedowns of many files at once, the same in a folder and in S3."""

import hashlib
import time
import tracemalloc

import pytest

from luthier.store.v1.store_pb2 import Tombstone
from luthier_kit.rpc import DataLoss, NotFound
from luthier_kit.store import FRESH_S, Digests, Store, to_json
from tests.support.stores import OpenStore


def digests(count: int, of: str = "") -> list[bytes]:
    return [hashlib.sha256(f"{of}{number}".encode()).digest() for number in range(count)]


def refused(store: Store, digest: bytes) -> bool:
    return store.tombstones.names(store.objects, digest.hex())


def test_all_of_a_set_and_nothing_else_is_refused(open_store: OpenStore, bucket: str, store: Store) -> None:
    down, others = digests(3000), digests(3000, "other")
    store.tombstones.add(store.objects, down, by="ann", reason="claim 7")
    for reader in (store, open_store(bucket)):
        assert all(refused(reader, digest) for digest in down)
        assert not any(refused(reader, digest) for digest in others)


def test_a_takedown_of_many_is_two_objects(store: Store) -> None:
    store.tombstones.add(store.objects, digests(3000), by="ann", reason="claim 7")
    assert len(list(store.objects.keys("tombstones/"))) == 2


def test_what_was_taken_down_before_is_not_taken_down_again(store: Store) -> None:
    one, two, three = digests(3)
    assert store.tombstones.add(store.objects, [one, two], by="ann", reason="claim 7") == [1]
    assert store.tombstones.add(store.objects, [two, one], by="bob", reason="again") == []
    assert store.tombstones.add(store.objects, [two, three], by="bob", reason="claim 8") == [2]
    assert sum(stored.size_bytes for stored in store.objects.stored("tombstones/digests/")) == 3 * 32


def test_the_sets_that_hold_a_digest_are_found_by_their_numbers(store: Store) -> None:
    one, two, three, four = digests(4)
    assert store.tombstones.newest(store.objects) == 0
    for part in ([one], [two], [three]):
        store.tombstones.add(store.objects, part, by="ann", reason="claim 7")

    held = Digests.of([one, three, four])

    assert store.tombstones.newest(store.objects) == 3
    assert store.tombstones.sets_with(store.objects, held, after=0) == [1, 3]
    assert store.tombstones.sets_with(store.objects, held, after=1) == [3]
    assert store.tombstones.sets_with(store.objects, held, after=0, but=[3]) == [1]


def test_a_reader_that_runs_honours_a_takedown_within_a_minute(
    open_store: OpenStore, bucket: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    reader = open_store(bucket)
    assert reader.blobs.read(ref) == b"music"
    store.blobs.take_down(ref.sha256, by="ann", reason="claim 7")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + FRESH_S)
    with pytest.raises(NotFound, match="taken down"):
        reader.blobs.read(ref)
    assert FRESH_S <= 60


def test_single_tombstones_of_earlier_versions_are_honoured_beside_sets(store: Store) -> None:
    old, new, neither = digests(3)
    store.objects.create(f"tombstones/{old.hex()}.json", to_json(Tombstone(taken_down_by="ann")))
    store.tombstones.add(store.objects, [new], by="ann", reason="claim 7")
    assert [refused(store, digest) for digest in (old, new, neither)] == [True, True, False]


def test_many_takedowns_are_searched_as_few_sets(open_store: OpenStore, bucket: str, store: Store) -> None:
    down = digests(40)
    for digest in down:
        store.tombstones.add(store.objects, [digest], by="ann", reason="claim 7")
    reader = open_store(bucket)
    assert all(refused(reader, digest) for digest in down)
    assert len(reader.tombstones._known[bucket].sets) <= 6  # 2^6 > 40


def test_a_reader_holds_32_bytes_for_each(open_store: OpenStore, bucket: str, store: Store) -> None:
    count = 100_000
    store.tombstones.add(store.objects, digests(count), by="ann", reason="a plugin")
    reader = open_store(bucket)
    tracemalloc.start()
    try:
        refused(reader, b"\0" * 32)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 1.1 * 32 * count


@pytest.mark.parametrize("packed", [None, b"", b"\1" * 32, b"\2" * 32 + b"\1" * 32])
def test_nothing_is_read_while_a_list_of_what_was_taken_down_is_damaged(
    open_store: OpenStore, bucket: str, store: Store, packed: bytes | None
) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    store.tombstones.add(store.objects, digests(2), by="ann", reason="claim 7")
    (key,) = store.objects.keys("tombstones/digests/")
    store.objects.delete(key)
    if packed is not None:
        store.objects.create(key, packed)
    with pytest.raises(DataLoss) as lost:
        open_store(bucket).blobs.read(ref)
    assert lost.value.reason == "TOMBSTONES_CORRUPT"


def test_names_that_are_no_digests_are_not_taken_down(store: Store) -> None:
    store.tombstones.add(store.objects, digests(2), by="ann", reason="claim 7")
    assert not store.tombstones.names(store.objects, "a name")


def test_digests_are_packed_ascending_and_each_once() -> None:
    assert Digests.of([b"\2" * 32, b"\1" * 32, b"\2" * 32]).packed == b"\1" * 32 + b"\2" * 32
    united = Digests.of(digests(50)) | Digests.of(digests(70))
    assert united.packed == Digests.of(digests(70)).packed
