"""luthier export: what it asks where nothing is named, and the folder that is replaced whole or left."""

import fcntl
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from luthier.curation.v1.curation_pb2 import CuratedClip, ExportDatasetResponse, ListClipsResponse, SplitSummary
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier_kit.rpc import SPLITS
from luthier_kit.store import Store
from luthier_pipeline.export.command import write_folder
from luthier_pipeline.export.dataset import Format
from luthier_pipeline.export.folder import replacing
from tests.pipeline.export.hostile import hostile
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier

FORMATS: tuple[Format, ...] = ("audiofolder", "parquet", "webdataset")


def dataset(store: Store, version: int, **clips: bytes) -> ExportDatasetResponse:
    """A version of the data set `book`: `train_a=b"sound"` is clip-a of the split train."""
    rows = []
    for name, sound in clips.items():
        split, _, clip = name.partition("_")
        audio = store.blobs.put_bytes("clips", sound, "flac")
        rows.append(DatasetRow(clip_id=f"clip-{clip}", split=split, audio=audio, prompts=["a song"]))
    manifest = store.put("manifests", DatasetManifest(format="luthier.dataset.v1", rows=rows))
    splits = [SplitSummary(split=split, clips=sum(row.split == split for row in rows)) for split in SPLITS]
    return ExportDatasetResponse(name="book", version=version, manifest=manifest, splits=splits)


def export(store: Store, answer: ExportDatasetResponse, out: Path, form: Format = "audiofolder") -> Done:
    clients = FakeClients(store, curation=Stub(ExportDataset=answer))
    return luthier(["export", "--collection", "book", "--out", str(out), "--format", form], clients)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def audio_of(folder: Path) -> Mapping[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(".flac")}


def test_it_takes_the_only_collection_and_asks_where_there_are_several() -> None:
    def pages(*names: str) -> ListClipsResponse:
        return ListClipsResponse(clips=[CuratedClip(collection=name) for name in names])

    curation = Stub(ListClips=pages("jazz"), ExportDataset=ExportDatasetResponse(name="jazz", version=1))
    assert luthier("export --as ann --json", FakeClients(curation=curation)).document["dataset"] == "jazz@1"
    assert curation.requests("ExportDataset")[0].collection == "jazz"
    done = luthier("export --as ann", FakeClients(curation=Stub(ListClips=pages("jazz", "rock"))))
    assert done.code == 2
    assert "jazz, rock" in done.err


def test_a_format_without_a_folder_is_refused_before_anything_is_frozen() -> None:
    curation = Stub(ExportDataset=ExportDatasetResponse(name="book", version=1))
    done = luthier("export --collection book --format parquet", FakeClients(curation=curation))
    assert (done.code, "--out" in done.err) == (2, True)
    assert curation.requests("ExportDataset") == []


def test_an_audio_folder_has_every_clip_the_manifest_and_the_card(store: Store, tmp_path: Path) -> None:
    answer = dataset(store, 1, train_a=b"sound")
    for _ in range(2):
        assert export(store, answer, tmp_path / "out").code == 0
        found = contents(tmp_path / "out")
        assert set(found) == {
            "manifest.json", "README.md", "croissant.json", "train/metadata.parquet", "train/clip-a.flac",
        }  # fmt: skip
        assert found["manifest.json"] == store.blobs.read(answer.manifest)
        assert found["train/clip-a.flac"] == b"sound"


def test_a_second_version_replaces_the_first_whole(store: Store, tmp_path: Path) -> None:
    """A clip that moved to another split, one that left, and one whose audio was made anew, as long as before."""
    out = tmp_path / "out"
    assert export(store, dataset(store, 1, train_a=b"sound", train_b=b"left", test_c=b"one"), out).code == 0
    assert export(store, dataset(store, 2, validation_a=b"sound", test_c=b"two"), out).code == 0
    assert audio_of(out) == {"validation/clip-a.flac": b"sound", "test/clip-c.flac": b"two"}
    assert not (out / "train").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_no_format_mixes_with_what_was_there(store: Store, tmp_path: Path, first: Format, second: Format) -> None:
    fresh, used = tmp_path / "fresh", tmp_path / "used"
    newest = dataset(store, 2, train_a=b"sound", test_c=b"two")
    assert export(store, dataset(store, 1, train_a=b"sound", validation_b=b"left"), used, first).code == 0
    assert export(store, newest, used, second).code == 0
    assert export(store, newest, fresh, second).code == 0
    assert contents(used) == contents(fresh)


@pytest.mark.parametrize("name", ["train/thesis.txt", "README.md", "data/train-00000-of-00001.parquet"])
def test_a_folder_that_holds_something_else_is_refused_and_left(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("years of work")
    done = export(store, dataset(store, 1, train_a=b"sound"), tmp_path / "out")
    assert (done.code, name.partition("/")[0] in done.err) == (2, True)
    assert contents(tmp_path / "out") == {name: b"years of work"}


def test_a_folder_of_an_earlier_release_is_replaced(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out/train").mkdir(parents=True)
    for name in ("manifest.json", "train/metadata.jsonl", "train/clip-0a.flac"):
        (tmp_path / "out" / name).write_bytes(b"old")
    assert export(store, dataset(store, 1, train_a=b"sound"), tmp_path / "out").code == 0
    assert not (tmp_path / "out/train/metadata.jsonl").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_cannot_be_finished_leaves_the_last_one(store: Store, tmp_path: Path, form: Format) -> None:
    out, second = tmp_path / "out", dataset(store, 2, train_b=b"lost")
    assert export(store, dataset(store, 1, train_a=b"sound"), out, form).code == 0
    before = contents(out)
    store.objects.delete(store.blobs.put_bytes("clips", b"lost", "flac").key)
    assert export(store, second, out, form).code == 1
    assert contents(out) == before
    assert export(store, dataset(store, 3, train_c=b"third"), out).code == 0  # what was left half written is swept
    assert audio_of(out) == {"train/clip-c.flac": b"third"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_fault_of_the_store_is_told_as_the_stores(store: Store, tmp_path: Path, form: Format) -> None:
    answer = dataset(store, 1, train_a=b"sound")
    blob = next((tmp_path / "store").rglob("clips/*.flac"))
    blob.unlink()
    blob.symlink_to(blob)  # reading it is an OSError for everybody, root included
    done = export(store, answer, tmp_path / "out", form)
    assert done.code == 1
    assert "the artifact folder failed" in done.err
    assert "--out" not in done.err


@pytest.mark.parametrize("form", FORMATS)
def test_a_fault_of_the_folder_is_told_as_the_folders(store: Store, tmp_path: Path, form: Format) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = export(store, dataset(store, 1, train_a=b"sound"), tmp_path / "file/out", form)
    assert (done.code, "--out: cannot be written: Not a directory" in done.err) == (1, True)


@pytest.mark.parametrize(
    "clip", [DatasetRow(clip_id="clip-../../x"), DatasetRow(clip_id="clip-a.b"), DatasetRow(split="../train")]
)
def test_a_manifest_that_names_files_outside_is_refused(store: Store, tmp_path: Path, clip: DatasetRow) -> None:
    row = DatasetRow(clip_id="clip-a", split="train", audio=store.blobs.put_bytes("clips", b"sound", "flac"))
    row.MergeFrom(clip)
    manifest = store.put("manifests", DatasetManifest(format="luthier.dataset.v1", rows=[row]))
    done = export(store, ExportDatasetResponse(name="book", version=1, manifest=manifest), tmp_path / "out")
    assert (done.code, "MANIFEST_INVALID" in done.err) == (1, True)
    assert not (tmp_path / "out").exists()


def test_what_an_export_that_was_killed_while_it_replaced_left_is_put_back(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_folder(store, hostile(store).answer, folder, "audiofolder")
    folder.rename(tmp_path / ".out.old")  # killed before the new one had its name
    with pytest.raises(ZeroDivisionError), replacing(folder):
        raise ZeroDivisionError  # and the next one fails
    assert (folder / "manifest.json").exists()


def test_two_exports_into_one_folder_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / ".out.new").mkdir()
    other = os.open(tmp_path / ".out.new", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    done = export(store, dataset(store, 1, train_a=b"sound"), tmp_path / "out")
    os.close(other)
    assert (done.code, "by another command" in done.err) == (2, True)


def test_a_file_system_without_hard_links_takes_a_second_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # as exFAT does

    first, second = dataset(store, 1, train_a=b"sound"), dataset(store, 2, train_a=b"sound", test_b=b"new")
    assert export(store, first, tmp_path / "out").code == 0
    monkeypatch.setattr(os, "link", refused)
    assert export(store, second, tmp_path / "out").code == 0
    assert audio_of(tmp_path / "out") == {"train/clip-a.flac": b"sound", "test/clip-b.flac": b"new"}


def test_audio_that_was_damaged_in_the_folder_is_fetched_anew(store: Store, tmp_path: Path) -> None:
    answer = dataset(store, 1, train_a=b"sound")
    assert export(store, answer, tmp_path / "out").code == 0
    (tmp_path / "out/train/clip-a.flac").write_bytes(b"noise")
    assert export(store, answer, tmp_path / "out").code == 0
    written = (tmp_path / "out/train/clip-a.flac").read_bytes()
    assert hashlib.sha256(written).hexdigest() == hashlib.sha256(b"sound").hexdigest()


@pytest.mark.parametrize(
    ("out", "fault"), [(".", "is the working directory"), ("..", "is the working directory"), ("/proc", "mount point")]
)
def test_a_folder_that_cannot_be_replaced_is_refused_before_anything_is_frozen(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, fault: str
) -> None:
    here = tmp_path / "dataset/train"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    curation = Stub(ExportDataset=dataset(store, 1, train_a=b"sound"))
    done = luthier(["export", "--collection", "book", "--out", out], FakeClients(store, curation=curation))
    assert (done.code, fault in done.err) == (2, True)
    assert curation.requests("ExportDataset") == []
    assert here.samefile(".")
