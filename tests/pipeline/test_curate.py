"""review and export: what they take where nothing is named, and the data set as a folder."""

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
from luthier_kit.store import Store
from tests.pipeline.fakes import FakeClients, Stub, luthier


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


@pytest.mark.parametrize("again", [False, True])
def test_export_writes_an_audio_folder_and_leaves_what_is_there(store: Store, tmp_path: Path, again: bool) -> None:
    audio = store.blobs.put_bytes("clips", b"sound", "flac")
    row = DatasetRow(clip_id="clip-0", split="train", audio=audio, prompts=["a song"])
    manifest = store.put("manifests", DatasetManifest(format="luthier.dataset.v1", rows=[row]))
    metadata = store.blobs.put_bytes("metadata", b"{}", "jsonl")
    splits = [SplitSummary(split="train", clips=1, metadata=metadata), SplitSummary(split="test", metadata=metadata)]
    answer = ExportDatasetResponse(name="book", version=1, manifest=manifest, splits=splits)
    line = f"export --collection book --out {tmp_path / 'out'}"
    for _ in range(1 + again):
        assert luthier(line, FakeClients(store, curation=Stub(ExportDataset=answer))).code == 0
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in tmp_path.glob("out/*/*")}
    assert found == {"train/metadata.jsonl": b"{}", "train/clip-0.flac": b"sound"}
