"""What only a folder can do wrong."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.registry.v1.registry_pb2 import Cancellation
from luthier_kit.rpc import Unavailable, status_of
from luthier_kit.store import FolderStore, Store, StoreSettings, open_store


def opened(folder: Path) -> Store:
    store = Store(FolderStore(folder, "luthier"))
    store.objects.ensure_bucket(create=True)
    return store


def test_no_temporary_file_stays(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.blobs.put_bytes("mixes", b"music", "flac")
    store.series(Cancellation, "runs/a").append(Cancellation())
    store.objects.create("runs/a/1.json", b"late")
    assert list((tmp_path / "luthier/.incoming").iterdir()) == []


def test_what_a_crashed_writer_left_is_swept_after_a_day(tmp_path: Path) -> None:
    store = opened(tmp_path)
    old, new = (tmp_path / "luthier/.incoming" / name for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    store.objects.ensure_bucket(create=True)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_cannot_be_written_is_a_store_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "luthier").write_text("a file where the bucket should be")
    with pytest.raises(Unavailable, match="artifact folder failed"):
        opened(tmp_path)


def test_a_folder_that_went_away_is_a_store_that_is_down_and_is_not_made_anew(tmp_path: Path) -> None:
    store = opened(tmp_path / "store")
    ref = store.blobs.put_bytes("notes", b"here", "txt")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    for ask in (
        lambda: store.blobs.read(ref),
        lambda: store.blobs.exists(ref),
        lambda: store.series(Cancellation, "runs/one").latest(),
        lambda: store.names("models/"),
        lambda: store.blobs.put_bytes("notes", b"more", "txt"),
        lambda: store.series(Cancellation, "runs/one").append(Cancellation()),
    ):
        with pytest.raises(Unavailable):
            ask()
    assert not (tmp_path / "store").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    assert store.blobs.read(ref) == b"here"


@pytest.mark.parametrize("key", ["/etc/passwd", "a/../b", ".incoming/x", "a//b", "", "a/", "a\0b", "a" * 600])
def test_a_key_never_leaves_the_folder(tmp_path: Path, key: str) -> None:
    store = opened(tmp_path)
    for call in (store.objects.size_bytes, store.objects.delete, lambda k: store.objects.create(k, b"x")):
        with pytest.raises(ValueError, match="not an object key"):
            call(key)


_WRITER = """
import sys
from pathlib import Path
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.store import FolderStore, Store
store = Store(FolderStore(Path(sys.argv[1]), "luthier"))
store.objects.ensure_bucket(create=True)
for n in range(10**6):
    store.blobs.put_bytes("mixes", b"%09d" % n * 100_000, "flac")
    store.series(ArtifactRef, "runs/a").append(ArtifactRef(size_bytes=n), after=n)
    print(n, flush=True)
"""


def test_a_killed_writer_leaves_nothing_half_written(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, tmp_path], stdout=subprocess.PIPE)
    assert writer.stdout
    for _ in range(3):
        writer.stdout.readline()
    writer.kill()
    writer.wait()

    store = opened(tmp_path)
    blobs = list((tmp_path / "luthier/mixes").iterdir())
    assert len(blobs) >= 3
    for blob in blobs:
        store.blobs.read(ArtifactRef(key=f"mixes/{blob.name}", sha256=blob.stem))
    series = store.series(ArtifactRef, "runs/a")
    written = [document.size_bytes for _, document in series.entries()]
    assert written == list(range(len(written)))
    assert series.append(ArtifactRef()) == len(written) + 1


def test_callers_of_a_service_are_told_no_path_of_its_store(tmp_path: Path) -> None:
    store = opened(tmp_path / "store")
    ref = store.blobs.put_bytes("notes", b"here", "txt")
    blob = tmp_path / "store/luthier" / ref.key
    blob.unlink()
    blob.mkdir()  # reading it fails, whoever reads
    with pytest.raises(Unavailable, match=str(tmp_path)) as failed:
        store.blobs.read(ref)
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match=str(tmp_path)) as gone:
        store.blobs.read(ref)
    for error, reason in ((failed.value, "STORE_UNAVAILABLE"), (gone.value, "STORE_BUCKET_MISSING")):
        assert error.reason == reason
        assert "/" not in status_of(error, "rendering").message


def settings(folder: Path, *, expected: bool) -> StoreSettings:
    return StoreSettings(store="folder", store_folder=folder, store_expected=expected)


def test_a_store_that_was_proven_carries_a_mark_that_stays(tmp_path: Path) -> None:
    mark = tmp_path / "luthier/proofs/store.json"
    open_store(settings(tmp_path, expected=False))
    first = mark.read_bytes()
    open_store(settings(tmp_path, expected=False))
    open_store(settings(tmp_path, expected=True))
    assert mark.read_bytes() == first


@pytest.mark.parametrize("empty", [True, False])
def test_a_store_that_is_expected_and_has_no_mark_is_refused_and_not_made(tmp_path: Path, empty: bool) -> None:
    if empty:
        (tmp_path / "luthier").mkdir()
    with pytest.raises(Unavailable) as refused:
        open_store(settings(tmp_path, expected=True))
    assert refused.value.reason == ("STORE_MARK_MISSING" if empty else "STORE_BUCKET_MISSING")
    assert [path.name for path in tmp_path.rglob("*")] == (["luthier"] if empty else [])


def test_another_proven_store_in_the_place_of_one_is_not_that_store(tmp_path: Path) -> None:
    store = open_store(settings(tmp_path / "store", expected=False))
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    open_store(settings(tmp_path / "store", expected=False))
    with pytest.raises(Unavailable) as refused:
        store.blobs.put_bytes("notes", b"more", "txt")
    assert refused.value.reason == "STORE_MARK_MISSING"
    assert "/" not in status_of(refused.value, "rendering").message


def test_another_folder_in_the_place_of_a_proven_one_is_a_store_that_is_down(tmp_path: Path) -> None:
    """A mount that is lost shows the empty folder below it, and a writer that creates the bucket fills it."""
    store = open_store(settings(tmp_path / "store", expected=False))
    ref = store.blobs.put_bytes("notes", b"here", "txt")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    FolderStore(tmp_path / "store", "luthier").ensure_bucket(create=True)
    for ask in (
        lambda: store.blobs.exists(ref),
        lambda: store.blobs.put_bytes("notes", b"more", "txt"),
        lambda: store.series(Cancellation, "runs/one").append(Cancellation()),
        lambda: store.names("models/"),
    ):
        with pytest.raises(Unavailable) as refused:
            ask()
        assert refused.value.reason == "STORE_MARK_MISSING"
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    assert store.blobs.read(ref) == b"here"
