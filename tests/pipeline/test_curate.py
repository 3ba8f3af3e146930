"""review and export: what they take where nothing is named, and the data set as a folder."""

import os
from pathlib import Path

import pytest

from luthier.curation.v1.curation_pb2 import (
    CuratedClip,
    ExportDatasetResponse,
    ListClipsResponse,
    ReviewClipsResponse,
    SplitSummary,
)
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier_kit.rpc import SPLITS
from luthier_kit.store import Store
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier


def pages(*names: str) -> list[ListClipsResponse]:
    """One clip of each collection, a clip a page."""
    return [
        ListClipsResponse(clips=[CuratedClip(collection=name)], next_page_token="" if name == names[-1] else name)
        for name in names
    ]


def test_review_takes_every_collection_where_none_is_named() -> None:
    answers = [ReviewClipsResponse(changed=n, unchanged=1, batch_id=f"b{n}") for n in (2, 3)]
    curation = Stub(ListClips=pages("jazz", "rock"), ReviewClips=answers)
    document = luthier("review --accept checked --as ann --json", FakeClients(curation=curation)).document
    reviewed = curation.requests("ReviewClips")
    assert [request.filter.collection for request in reviewed] == ["jazz", "rock"]
    assert all(request.automatic and request.filter.checked and request.reviewer == "ann" for request in reviewed)
    assert document == {"changed": 5, "unchanged": 2, "batch_id": "b3", "batches": {"jazz": "b2", "rock": "b3"}}


def test_export_takes_the_only_collection_and_asks_where_there_are_several() -> None:
    curation = Stub(ListClips=pages("jazz"), ExportDataset=ExportDatasetResponse(name="jazz", version=1))
    assert luthier("export --as ann --json", FakeClients(curation=curation)).document["dataset"] == "jazz@1"
    assert curation.requests("ExportDataset")[0].collection == "jazz"
    done = luthier("export --as ann", FakeClients(curation=Stub(ListClips=pages("jazz", "rock"))))
    assert done.code == 2
    assert "jazz, rock" in done.err


def dataset(store: Store, version: int, **clips: bytes) -> ExportDatasetResponse:
    """A version of the data set `book`: `train_a=b"sound"` is clip-a of the split train."""
    rows = []
    for name, sound in clips.items():
        split, _, clip = name.partition("_")
        audio = store.blobs.put_bytes("clips", sound, "flac")
        rows.append(DatasetRow(clip_id=f"clip-{clip}", split=split, audio=audio, prompts=["a song"]))
    manifest = store.put("manifests", DatasetManifest(format="luthier.dataset.v1", rows=rows))
    splits = []
    for split in SPLITS:
        lines = b"".join(f'{{"file_name": "{row.clip_id}.flac"}}\n'.encode() for row in rows if row.split == split)
        metadata = store.blobs.put_bytes("metadata", lines, "jsonl")
        splits.append(SplitSummary(split=split, clips=sum(row.split == split for row in rows), metadata=metadata))
    return ExportDatasetResponse(name="book", version=version, manifest=manifest, splits=splits)


def export(store: Store, answer: ExportDatasetResponse, out: Path) -> Done:
    clients = FakeClients(store, curation=Stub(ExportDataset=answer))
    return luthier(["export", "--collection", "book", "--out", str(out)], clients)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_export_writes_an_audio_folder(store: Store, tmp_path: Path) -> None:
    answer = dataset(store, 1, train_a=b"sound")
    for _ in range(2):
        assert export(store, answer, tmp_path / "out").code == 0
        assert contents(tmp_path / "out") == {
            "manifest.json": store.blobs.read(answer.manifest),
            "train/metadata.jsonl": b'{"file_name": "clip-a.flac"}\n',
            "train/clip-a.flac": b"sound",
        }


def test_a_second_version_replaces_the_first_whole(store: Store, tmp_path: Path) -> None:
    """A clip that moved to another split, one that left, and one whose audio was made anew, as long as before."""
    out = tmp_path / "out"
    assert export(store, dataset(store, 1, train_a=b"sound", train_b=b"left", test_c=b"one"), out).code == 0
    assert export(store, dataset(store, 2, validation_a=b"sound", test_c=b"two"), out).code == 0
    audio = {name: data for name, data in contents(out).items() if name.endswith(".flac")}
    assert audio == {"validation/clip-a.flac": b"sound", "test/clip-c.flac": b"two"}
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "test", "validation"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_a_folder_that_holds_something_else_is_refused_and_left(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out/train").mkdir(parents=True)
    (tmp_path / "out/train/thesis.txt").write_text("years of work")
    done = export(store, dataset(store, 1, train_a=b"sound"), tmp_path / "out")
    assert (done.code, "train/thesis.txt" in done.err) == (2, True)
    assert contents(tmp_path / "out") == {"train/thesis.txt": b"years of work"}


def test_an_export_that_cannot_be_finished_leaves_the_last_one(store: Store, tmp_path: Path) -> None:
    out, second = tmp_path / "out", dataset(store, 2, train_b=b"lost")
    assert export(store, dataset(store, 1, train_a=b"sound"), out).code == 0
    before = contents(out)
    store.objects.delete(store.blobs.put_bytes("clips", b"lost", "flac").key)
    assert export(store, second, out).code == 1
    assert contents(out) == before
    assert export(store, dataset(store, 3, train_c=b"third"), out).code == 0  # what was left half written is swept
    assert "train/clip-c.flac" in contents(out)
    assert "train/clip-a.flac" not in contents(out)


def test_a_file_system_without_hard_links_takes_a_second_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # as exFAT does

    first, second = dataset(store, 1, train_a=b"sound"), dataset(store, 2, train_a=b"sound", test_b=b"new")
    assert export(store, first, tmp_path / "out").code == 0
    monkeypatch.setattr(os, "link", refused)
    assert export(store, second, tmp_path / "out").code == 0
    audio = {name: data for name, data in contents(tmp_path / "out").items() if name.endswith(".flac")}
    assert audio == {"train/clip-a.flac": b"sound", "test/clip-b.flac": b"new"}


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
