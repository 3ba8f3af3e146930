"""luthier curate: what is asked of curation, and what lies in the folder."""

import json
from pathlib import Path

import pytest

from luthier.curation.v1 import curation_pb2 as pb
from luthier_kit.store import Store
from tests.pipeline.fakes import FakeClients, Stub, luthier
from tests.support.services import temp_store

from .test_opinion_files import CLIP, LABEL_STUDIO


@pytest.fixture
def clients(tmp_path: Path) -> FakeClients:
    """Curation has one clip, whose audio is in the store."""
    with temp_store(tmp_path / "store") as store:
        return with_clip(store)


def with_clip(store: Store) -> FakeClients:
    clip = pb.CuratedClip()
    clip.CopyFrom(CLIP)
    clip.audio.CopyFrom(store.blobs.put_bytes("clips", b"fLaC", "flac", "audio/flac"))
    return FakeClients(store, curation=Stub(ListClips=pb.ListClipsResponse(clips=[clip])))


@pytest.mark.parametrize(
    ("form", "file", "more"),
    [("label-studio", "tasks.json", "interface.xml"), ("argilla", "records.json", "settings.json")],
)
def test_a_folder_has_the_clips_their_audio_and_what_shows_them(
    clients: FakeClients, tmp_path: Path, form: str, file: str, more: str
) -> None:
    out = tmp_path / "out"
    luthier(f"curate export --collection demo --verdict rejected --format {form} --out {out}", clients)
    assert clients.requests("ListClips")[0].filter == pb.ClipFilter(collection="demo", verdict=pb.VERDICT_REJECTED)
    assert (out / "audio" / "clip-1.flac").read_bytes() == b"fLaC"
    assert "audio/clip-1.flac" in json.dumps(json.loads((out / file).read_text()))
    assert (out / more).exists()


def test_a_folder_that_is_there_is_left_alone(clients: FakeClients, tmp_path: Path) -> None:
    assert luthier(f"curate export --collection demo --out {tmp_path}", clients).code == 2


def test_what_was_exported_is_imported_five_hundred_at_a_time(tmp_path: Path) -> None:
    task = LABEL_STUDIO[0]
    tasks = [{**task, "data": {"clip_id": f"clip-{number}"}} for number in range(300)]  # two opinions each
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    answers = [
        pb.ImportOpinionsResponse(changed=250, unknown=["clip-7"], batch_id="a"),
        pb.ImportOpinionsResponse(changed=50, batch_id="b"),
    ]
    clients = FakeClients(curation=Stub(ImportOpinions=answers))
    line = f"curate import {tmp_path}/export.json --reviewer 3=Ada --as Cy --json"
    document = luthier(line, clients).document
    asked = clients.requests("ImportOpinions")
    assert [(len(request.opinions), request.imported_by) for request in asked] == [(500, "Cy"), (100, "Cy")]
    assert {item.opinion.reviewer for request in asked for item in request.opinions} == {"Ada", "bob@example.org"}
    assert (document["changed"], document["unknown"], document["batches"]) == (300, ["clip-7"], ["a", "b"])


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"annotations": 3}]'])
def test_a_file_that_is_no_export_sends_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    clients = FakeClients(curation=Stub(ImportOpinions=pb.ImportOpinionsResponse()))
    assert luthier(f"curate import {tmp_path}/export.json", clients).code == 2
    assert clients.requests("ImportOpinions") == []


def test_reviewers_are_asked_about_open_clips() -> None:
    clients = FakeClients(curation=Stub(AssignClips=pb.AssignClipsResponse(clips=4, assigned=[2, 2])))
    said = luthier("curate assign --collection demo --to Ada --to Bob", clients)
    [request] = clients.requests("AssignClips")
    assert request.filter == pb.ClipFilter(collection="demo", verdict=pb.VERDICT_OPEN)
    assert list(request.reviewers) == ["Ada", "Bob"]
    assert "Ada 2, Bob 2" in said.out


def test_collections_say_how_far_reviewers_agree() -> None:
    agreed = pb.Agreement(clips=9, kappa=0.4)
    demo = pb.Collection(name="demo", open=1, accepted=2, opinions_per_clip=2, agreement=agreed)
    curation = Stub(
        UpdateCollection=pb.UpdateCollectionResponse(), ListCollections=pb.ListCollectionsResponse(collections=[demo])
    )
    clients = FakeClients(curation=curation)
    said = luthier("curate collections --collection demo --opinions 2", clients)
    assert clients.requests("UpdateCollection") == [pb.UpdateCollectionRequest(name="demo", opinions_per_clip=2)]
    assert "0.40 over 9 clips" in said.out


def test_an_undo_waits_until_it_is_done_and_says_what_it_left() -> None:
    begun = pb.Batch(batch_id="u", state=pb.BATCH_STATE_RUNNING, total=3)
    done = pb.Batch(batch_id="u", state=pb.BATCH_STATE_DONE, seen=3, changed=2, unchanged=1)
    curation = Stub(UndoBatch=pb.UndoBatchResponse(batch=begun), GetBatch=pb.GetBatchResponse(batch=done))
    clients = FakeClients(curation=curation)
    said = luthier("curate undo b --as Cy", clients)
    assert clients.requests("UndoBatch") == [pb.UndoBatchRequest(batch_id="b", reviewer="Cy", background=True)]
    assert "taken back for 2 clips; 1 changed since" in said.out


def test_embedding_waits_until_it_is_done_and_says_what_has_no_vector() -> None:
    begun = pb.Batch(batch_id="e", state=pb.BATCH_STATE_RUNNING, total=3)
    done = pb.Batch(batch_id="e", state=pb.BATCH_STATE_DONE, seen=3, total=3, changed=2, unchanged=1)
    curation = Stub(EmbedClips=pb.EmbedClipsResponse(batch=begun), GetBatch=pb.GetBatchResponse(batch=done))
    clients = FakeClients(curation=curation)
    said = luthier("curate embed --collection demo --as Cy", clients)
    wanted = pb.EmbedClipsRequest(filter=pb.ClipFilter(collection="demo"), reviewer="Cy")
    assert clients.requests("EmbedClips") == [wanted]
    assert "2 clips embedded; 1 have no vector" in said.out


def test_embedding_that_fails_says_why() -> None:
    failed = pb.Batch(batch_id="e", state=pb.BATCH_STATE_FAILED, seen=1, total=3, error="the weights are gone")
    clients = FakeClients(curation=Stub(EmbedClips=pb.EmbedClipsResponse(batch=failed)))
    said = luthier("curate embed --collection demo", clients)
    assert (said.code, "after 1 of 3 clips: the weights are gone" in said.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "query"), [('"slow blues"', {"text": "slow blues"}), ("--like clip-1", {"clip_id": "clip-1"})]
)
def test_clips_are_searched_for_by_sound(words: str, query: dict[str, str]) -> None:
    found = pb.SearchClipsResponse(clips=[pb.SimilarClip(clip=CLIP, similarity=0.875)])
    clients = FakeClients(curation=Stub(SearchClips=found))
    said = luthier(f"curate search --collection demo --limit 5 {words}", clients)
    wanted = pb.SearchClipsRequest(filter=pb.ClipFilter(collection="demo"), limit=5, **query)
    assert clients.requests("SearchClips") == [wanted]
    assert "0.875" in said.out
    assert CLIP.clip_id in said.out


@pytest.mark.parametrize("words", ["", "x --like clip-1"])
def test_a_search_is_by_a_text_or_a_clip(words: str) -> None:
    assert luthier(f"curate search --collection demo {words}", FakeClients()).code == 2
