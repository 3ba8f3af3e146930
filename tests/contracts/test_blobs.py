"""Blobs, the same from a folder and from S3: verified both ways, refused when misnamed, streamed."""

import io
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest, LuthierError, NotFound, PermissionDenied
from luthier_kit.store import Store
from luthier_kit.store._objects import OpenSource
from tests.support.stores import OpenStore, damage


def test_a_blob_is_named_by_its_digest_and_comes_back_as_it_went(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "mix.flac"
    source.write_bytes(b"music" * 1000)

    ref = store.blobs.put_file("mixes", source, "audio/flac")

    assert ref.key == f"mixes/{ref.sha256}.flac"
    assert ref.size_bytes == 5000
    assert store.blobs.read(ref) == source.read_bytes()
    assert store.blobs.fetch(ref, tmp_path / "out").read_bytes() == source.read_bytes()
    assert store.blobs.exists(ref)


def test_files_that_are_given_up_are_stored_as_others_are_and_gone(store: Store, tmp_path: Path) -> None:
    paths = [tmp_path / f"clip-{number}.FLAC" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(b"music" * number)  # one of them is empty
    kept = tmp_path / "kept.flac"
    kept.write_bytes(b"music")

    refs = store.blobs.move_files("clips", paths, "audio/flac")

    assert refs[1] == store.blobs.put_file("clips", kept, "audio/flac")
    assert [store.blobs.read(ref) for ref in refs] == [b"", b"music", b"musicmusic"]
    assert [path for path in paths if path.exists()] == []
    assert store.blobs.move_files("clips", [], "audio/flac") == []
    assert store.blobs.move_file("clips", kept, "audio/flac") == refs[1]  # equal bytes are one blob


def test_a_blob_that_is_only_read_need_not_be_a_copy_and_is_what_was_stored(store: Store, tmp_path: Path) -> None:
    written = tmp_path / "mix.flac"
    written.write_bytes(b"music" * 1000)
    ref = store.blobs.move_file("mixes", written, "audio/flac")
    path = store.blobs.fetch(ref, tmp_path / "out", read_only=True)
    assert path == store.blobs.fetch(ref, tmp_path / "out", read_only=True)
    assert path.read_bytes() == b"music" * 1000
    path.unlink()
    assert list((tmp_path / "out").iterdir()) == []
    assert store.blobs.read(ref) == b"music" * 1000


def test_an_empty_blob_is_a_blob(store: Store, tmp_path: Path) -> None:
    ref = store.blobs.put_bytes("manifests", b"", "json", "application/json")
    assert store.blobs.read(ref) == b""
    assert store.blobs.fetch(ref, tmp_path).read_bytes() == b""


def test_a_listing_says_size_and_time_and_a_blob_that_is_put_again_is_young_again(store: Store) -> None:
    ref = store.blobs.put_bytes("clips", b"sound", "flac", "audio/flac")
    store.blobs.put_bytes("mixes", b"other", "flac", "audio/flac")
    [first] = store.objects.stored("clips/")
    time.sleep(1.1)
    store.blobs.put_bytes("clips", b"sound", "flac", "audio/flac")
    [again] = store.objects.stored("clips/")
    found = store.objects.stat(ref.key)
    assert found
    assert found.written_at == pytest.approx(again.written_at, abs=1)  # S3 tells whole seconds
    assert (first.key, first.size_bytes) == (ref.key, 5)
    assert abs(first.written_at - time.time()) < 60
    assert again.written_at > first.written_at
    assert {found.key for found in store.objects.stored("")} > {ref.key}


def test_a_source_that_changes_while_it_is_written_stores_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "mix.flac"
    source.write_bytes(b"one")
    put = store.objects.put

    def put_later(key: str, source_of: OpenSource, size_bytes: int, media_type: str) -> None:
        source.write_bytes(b"two")
        put(key, source_of, size_bytes, media_type)

    monkeypatch.setattr(store.objects, "put", put_later)
    with pytest.raises(DataLoss) as caught:
        store.blobs.put_file("mixes", source, "audio/flac")
    assert caught.value.reason == "ARTIFACT_SOURCE_CHANGED"
    assert list(store.objects.keys("mixes/")) == []


@pytest.mark.parametrize("change", [b"", b"on", b"one and more"])
def test_a_source_of_another_length_stores_nothing(store: Store, change: bytes) -> None:
    data = b"one"

    class Changing(io.BytesIO):
        def __init__(self) -> None:
            super().__init__(change)

    ref = store.blobs._named("mixes/" + "0" * 64 + ".flac", "0" * 64, len(data), "audio/flac")
    with pytest.raises(DataLoss):
        store.blobs._put(Changing, ref)
    assert list(store.objects.keys("mixes/")) == []


@pytest.mark.parametrize("read_only", [True, False])
def test_corrupt_bytes_are_data_loss_and_are_set_aside(store: Store, tmp_path: Path, read_only: bool) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    damage(store, ref.key, b"noise")

    with pytest.raises(DataLoss):
        store.blobs.fetch(ref, tmp_path, read_only=read_only)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "objects"])
    assert not store.blobs.exists(ref)
    assert list(store.objects.keys("quarantine/")) == [f"quarantine/{ref.key}"]


def test_a_truncated_object_is_data_loss(store: Store) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    damage(store, ref.key, b"mus")
    assert not store.blobs.exists(ref)
    with pytest.raises(DataLoss):
        store.blobs.read(ref)


def test_a_digest_that_is_wrong_only_once_is_not_corruption(store: Store) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    chunks, damaged = store.objects.chunks, [b"noise"]
    store.objects.chunks = lambda key: iter([damaged.pop()]) if damaged else chunks(key)  # type: ignore[method-assign]
    assert store.blobs.read(ref) == b"music"
    assert store.blobs.exists(ref)


def test_a_missing_object_is_not_found(store: Store, tmp_path: Path) -> None:
    ref = ArtifactRef(key=f"mixes/{'0' * 64}.flac", sha256="0" * 64)
    for read in (
        lambda: store.blobs.read(ref),
        lambda: store.blobs.fetch(ref, tmp_path),
        lambda: store.blobs.fetch(ref, tmp_path, read_only=True),
    ):
        with pytest.raises(NotFound) as caught:
            read()
        assert caught.value.reason == "ARTIFACT_NOT_FOUND"
    assert not store.blobs.exists(ref)


def test_a_local_copy_is_kept_only_while_it_is_right(store: Store, tmp_path: Path) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    path = store.blobs.fetch(ref, tmp_path)
    path.write_bytes(b"noise")
    assert store.blobs.fetch(ref, tmp_path).read_bytes() == b"music"


def test_more_than_the_bound_is_refused_before_it_is_read(store: Store) -> None:
    ref = store.blobs.put_bytes("mixes", b"x" * 100, "flac")
    with pytest.raises(InvalidRequest, match="at most 99 bytes"):
        store.blobs.read(ref, max_bytes=99)


def test_more_than_the_bound_is_refused_before_it_is_copied_whatever_the_reference_says(
    store: Store, tmp_path: Path
) -> None:
    ref = store.blobs.put_bytes("clips", bytes(100), "flac")
    ref.size_bytes = 0
    for read_only in (False, True):
        with pytest.raises(InvalidRequest, match="at most 99 bytes"):
            store.blobs.fetch(ref, tmp_path / "copies", max_bytes=99, read_only=read_only)
    assert not (tmp_path / "copies").exists()


def test_a_wrong_size_in_the_reference_is_refused(store: Store, tmp_path: Path) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    ref.size_bytes = 6
    for read in (lambda: store.blobs.read(ref), lambda: store.blobs.fetch(ref, tmp_path, read_only=True)):
        with pytest.raises(FailedPrecondition) as caught:
            read()
        assert caught.value.reason == "ARTIFACT_SIZE_MISMATCH"


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"key": "../etc/passwd"}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"key": "mixes/../../x"}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"key": f"actions/{'0' * 64}.json"}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"key": ""}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"key": "m" * 600}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"sha256": "xyz"}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"size_bytes": -1}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"sha256": "0" * 64}, FailedPrecondition, "ARTIFACT_DIGEST_MISMATCH"),
        ({"bucket": "other"}, PermissionDenied, "BUCKET_NOT_ALLOWED"),
    ],
)
def test_a_bad_reference_is_refused(
    store: Store, tmp_path: Path, change: dict[str, Any], kind: type[LuthierError], reason: str
) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    ref.MergeFrom(ArtifactRef(**change))
    if "key" in change:
        ref.key = change["key"]
    for read in (
        lambda: store.blobs.read(ref),
        lambda: store.blobs.fetch(ref, tmp_path),
        lambda: store.blobs.exists(ref),
    ):
        with pytest.raises(kind) as caught:
            read()
        assert caught.value.reason == reason


def test_an_allowed_bucket_is_read(open_store: OpenStore, bucket: str, store: Store) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    reader = open_store(f"{bucket}-reader", allowed=frozenset({bucket}))
    assert reader.blobs.read(ref) == b"music"


def test_a_long_blob_is_streamed(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "weights.safetensors"
    with source.open("wb") as file:
        file.truncate(48 << 20)
    tracemalloc.start()
    try:
        ref = store.blobs.put_file("checkpoints", source)
        store.blobs.fetch(ref, tmp_path / "out")
        store.blobs.move_file("checkpoints", source)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 32 << 20


def test_what_was_taken_down_is_refused_to_every_reader(
    open_store: OpenStore, bucket: str, store: Store, tmp_path: Path
) -> None:
    ref = store.blobs.put_bytes("mixes", b"music", "flac")
    store.blobs.take_down(ref.sha256, by="label", reason="claim 7")
    store.blobs.take_down(ref.sha256, by="another", reason="again")
    another = open_store(bucket)
    readers: list[Callable[[ArtifactRef], object]] = [
        store.blobs.read,
        another.blobs.read,
        another.blobs.exists,
        lambda ref: another.blobs.fetch(ref, tmp_path),
        lambda ref: another.blobs.fetch(ref, tmp_path, read_only=True),
    ]
    for read in readers:
        with pytest.raises(NotFound) as caught:
            read(ref)
        assert caught.value.reason == "ARTIFACT_TAKEN_DOWN"


@pytest.mark.parametrize("others", [0, 3000])
def test_which_of_many_blobs_are_there_is_one_question(store: Store, others: int) -> None:
    """Also among more objects than a listing is read for."""
    refs = [store.blobs.put_bytes("clips", f"{number}".encode() * 3, "flac") for number in range(25)]
    for number in range(others):
        store.objects.put(f"clips/{number:064x}.flac", lambda: io.BytesIO(b""), 0, "audio/flac")
    asked = {ref.key: ref.size_bytes for ref in refs}
    lost, cut, down, any_size = refs[0].key, refs[1].key, refs[2], refs[3].key
    store.objects.delete(lost)
    store.objects.put(cut, lambda: io.BytesIO(b"x"), 1, "audio/flac")
    store.blobs.take_down(down.sha256, by="me", reason="asked")
    asked[any_size] = 0
    elsewhere = store.blobs.put_bytes("mixes", b"mix", "flac")
    asked |= {elsewhere.key: 3, "mixes/" + "0" * 64 + ".flac": 3, "not a key": 1}
    assert store.blobs.stored(asked) == {ref.key for ref in refs[3:]} | {elsewhere.key}


def test_sizes_are_those_of_the_objects_that_are_there(store: Store) -> None:
    refs = [store.blobs.put_bytes("clips", b"x" * number, "flac") for number in range(1, 30)]
    store.objects.create("actions/cut/1.json", b"{}")
    keys = [*(ref.key for ref in refs), "clips/none.flac", "actions/cut/1.json", "actions/cut/2.json", "nowhere/1"]
    assert store.objects.sizes(keys) == {**{ref.key: ref.size_bytes for ref in refs}, "actions/cut/1.json": 2}
    assert store.objects.sizes([]) == {}
