"""What only a folder can do wrong."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.registry.v1.registry_pb2 import Cancellation
from luthier_kit.rpc import DataLoss, Unavailable, status_of
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
clips = [Path(sys.argv[1]) / f"written-{n}.flac" for n in range(3)]
for n in range(10**6):
    store.blobs.put_bytes("mixes", b"%09d" % n * 100_000, "flac")
    for clip in clips:
        clip.write_bytes(b"%09d" % n * 10_000 + clip.name.encode())
    store.blobs.move_files("mixes", clips)
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


def given_up(folder: Path, data: bytes = b"music") -> Path:
    """A file as a worker process writes it."""
    path = folder / "clip.flac"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_a_file_that_is_given_up_is_the_blob_with_the_mode_of_others_and_young(tmp_path: Path) -> None:
    store = opened(tmp_path / "store")
    other = store.objects.stat(store.blobs.put_bytes("clips", b"other", "flac").key)
    path = given_up(tmp_path)
    inode = path.stat().st_ino
    os.utime(path, (0, 0))
    ref = store.blobs.move_file("clips", path)
    blobs = tmp_path / "store/luthier/clips"
    assert other
    assert (blobs / Path(ref.key).name).stat().st_ino == inode
    assert len({path.stat().st_mode for path in blobs.iterdir()}) == 1
    found = store.objects.stat(ref.key)
    assert found
    assert found.written_at >= other.written_at


@pytest.mark.parametrize("name", ["hard", "soft"])
def test_a_file_that_has_another_name_is_copied(tmp_path: Path, name: str) -> None:
    """Whoever writes to that one does not change the blob."""
    store, path, other = opened(tmp_path / "store"), given_up(tmp_path), tmp_path / "other.flac"
    if name == "hard":
        os.link(path, other)
    else:
        path.rename(other)
        path.symlink_to(other)
    ref = store.blobs.move_file("clips", path)
    other.write_bytes(b"noise")
    assert store.blobs.read(ref) == b"music"
    assert not path.exists()


def test_files_of_another_file_system_are_copied_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path / "store")
    path = given_up(tmp_path)

    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", refused)
    monkeypatch.setattr(os, "link", refused)
    ref = store.blobs.move_file("clips", path)
    assert not path.exists()
    fetched = store.blobs.fetch(ref, tmp_path / "out", read_only=True)
    fetched.write_bytes(b"noise")
    assert store.blobs.read(ref) == b"music"


def test_a_blob_that_is_changed_the_moment_it_is_stored_is_found_out_by_who_only_reads_it(tmp_path: Path) -> None:
    """The kernel's clock of files has ticks of milliseconds: several writes have one time."""
    store = opened(tmp_path / "store")
    for number in range(20):
        ref = store.blobs.move_file("clips", given_up(tmp_path, b"%05d" % number))
        (tmp_path / "store/luthier" / ref.key).write_bytes(b"noise")
        with pytest.raises(DataLoss):
            store.blobs.fetch(ref, tmp_path / "out", read_only=True)
        assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("age_s", [0.0, 7200.0])
def test_bytes_that_change_on_the_disk_are_found_out_once_they_are_an_hour_old(tmp_path: Path, age_s: float) -> None:
    """Below the file system, so that nothing tells of it but the bytes."""
    store = opened(tmp_path / "store")
    ref = store.blobs.move_file("clips", given_up(tmp_path))
    blob = tmp_path / "store/luthier" / ref.key
    at_ns = blob.stat().st_mtime_ns - round(age_s * 1e9)
    try:
        noted = os.getxattr(blob, "user.luthier.stored").split()
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error.strerror}")
    blob.write_bytes(b"noise")
    os.setxattr(blob, "user.luthier.stored", b" ".join([*noted[:2], b"%d" % at_ns]))
    os.utime(blob, ns=(at_ns, at_ns))
    if age_s:
        with pytest.raises(DataLoss):
            store.blobs.fetch(ref, tmp_path / "out", read_only=True)
    else:
        assert store.blobs.fetch(ref, tmp_path / "out", read_only=True).read_bytes() == b"noise"  # what the hour costs
        with pytest.raises(DataLoss):
            store.blobs.fetch(ref, tmp_path / "copies")


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
