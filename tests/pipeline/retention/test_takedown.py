"""takedown: what goes with a file, what is named, and what running work adds."""

import dataclasses
import hashlib
import time
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.curation_pb2 import (
    VERDICT_REJECTED,
    CuratedClip,
    ListClipsRequest,
    ListClipsResponse,
    ReviewClipsResponse,
)
from luthier.pipeline.v1.pipeline_pb2 import TAKEDOWN_KIND_FILE
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.registry import register
from luthier_kit.rpc import NotFound, Unavailable
from luthier_kit.store import Action, Store
from luthier_pipeline.lineage import LineageIndex
from luthier_pipeline.retention import takedown
from luthier_pipeline.retention.asked import Asked
from luthier_pipeline.retention.reach import Reach
from luthier_pipeline.retention.takedown import take_down
from tests.pipeline.fakes import FakeClients, Stub, luthier
from tests.pipeline.filled_store import FilledStore, reach
from tests.support.services import temp_store


def asked_for_file(digest: str) -> Asked:
    return Asked(TAKEDOWN_KIND_FILE, digest)


def taken_down(store: Store, digest: str) -> Reach:
    """What fell with a file."""
    index = LineageIndex(store)
    return take_down(index, asked_for_file(digest), reach(index, digest), by="ann", reason="claim 7").found


def test_a_takedown_reaches_what_was_made_of_the_song_and_names_what_learned_from_it(each_store: Store) -> None:
    filled = FilledStore(each_store)
    found = reach(LineageIndex(each_store), filled.midi[0].sha256)
    assert set(found.derived.values()) == {filled.midi[0].key, filled.mixes[0].key, filled.clips[0].key}
    assert (found.datasets, found.models, found.runs) == (["way@1"], ["tuned@1"], [filled.run_id])
    assert set(found.generated) == {filled.audio.key, filled.judged.key}


def test_a_model_goes_with_its_checkpoint(each_store: Store) -> None:
    store = each_store
    filled = FilledStore(store)
    promoted = register(store, dataclasses.replace(filled.tuned, name="served"))
    found = taken_down(store, filled.tuned.checkpoint.sha256)
    assert found.unserved == ["served@1", "tuned@1"]
    assert set(found.generated) == {filled.audio.key, filled.judged.key}
    for refused in (lambda: store.blobs.read(promoted.checkpoint), lambda: filled.generate("Another song")):
        with pytest.raises(NotFound, match="taken down"):
            refused()
    assert store.blobs.read(filled.audio)


def test_a_takedown_names_the_models_tuned_from_a_checkpoint_and_the_data_set_of_a_manifest(store: Store) -> None:
    filled = FilledStore(store)
    index = LineageIndex(store)
    base = reach(index, filled.base.checkpoint.sha256)
    assert (base.unserved, base.models) == (["base@1"], ["tuned@1"])
    manifest = reach(index, filled.dataset.sha256)
    assert (manifest.datasets, manifest.models) == (["way@1"], ["tuned@1"])


def test_a_model_goes_with_the_weights_beneath_its_adapter_and_stays_without_one_above(store: Store) -> None:
    filled = FilledStore(store)
    once = filled.adapt("once", filled.base)
    twice = filled.adapt("twice", once)
    index = LineageIndex(store)
    beneath = reach(index, filled.base.checkpoint.sha256)
    assert (beneath.unserved, beneath.models) == (["base@1", "once@1", "twice@1"], ["tuned@1"])
    assert {filled.base.digest, once.digest, twice.digest} <= set(beneath.derived)
    lower, upper = (reach(index, adapter.artifact.sha256) for adapter in twice.adapters)
    assert lower.unserved == ["once@1", "twice@1"]
    assert upper.unserved == ["twice@1"]
    assert filled.base.checkpoint.sha256 not in lower.derived


def test_what_another_song_also_made_is_left_and_named_with_what_came_of_it(store: Store) -> None:
    filled = FilledStore(store)
    silence = filled.blob("stems", "silence")
    for mix in filled.mixes:
        action = Action("separate", [mix.sha256])
        store.actions.run(action, RenderSongResponse, lambda: RenderSongResponse(mix=silence))
    clip = filled.cut(silence)
    found = reach(LineageIndex(store), filled.midi[0].sha256)
    assert found.shared == [silence.key]
    assert set(found.derived.values()) == {filled.midi[0].key, filled.mixes[0].key, filled.clips[0].key}
    taken_down(store, filled.midi[0].sha256)
    assert store.blobs.read(silence)
    assert store.blobs.read(clip)
    action = Action("separate", [filled.mixes[1].sha256])
    _, reused = store.actions.run(action, RenderSongResponse, RenderSongResponse)
    assert reused


def test_bytes_that_come_of_themselves_again_are_no_other_songs(store: Store) -> None:
    filled = FilledStore(store)
    [mix, _] = filled.mixes
    store.actions.run(Action("trim", [mix.sha256]), RenderSongResponse, lambda: RenderSongResponse(mix=mix))
    assert mix.sha256 in reach(LineageIndex(store), filled.midi[0].sha256).derived


def test_a_takedown_begins_with_the_file_itself_and_finds_what_was_in_flight(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = FilledStore(store)
    late: list[ArtifactRef] = []

    def commit_in_flight(_: float) -> None:
        if not late:
            with temp_store(tmp_path / "store") as elsewhere:
                monkeypatch.setattr(elsewhere.tombstones, "check", lambda *_: None)  # it looked before the takedown
                late.append(elsewhere.blobs.put_bytes("latents", b"late", "safetensors"))
                response = RenderSongResponse(mix=late[0])
                action = Action("encode", [filled.clips[0].sha256])
                elsewhere.actions.run(action, RenderSongResponse, lambda: response)

    monkeypatch.setattr(time, "sleep", commit_in_flight)
    found = taken_down(store, filled.midi[0].sha256)
    assert next(iter(found.derived)) == filled.midi[0].sha256
    assert found.derived[late[0].sha256] == late[0].key
    with pytest.raises(NotFound, match="taken down"):
        store.blobs.read(late[0])


def test_a_takedown_that_work_outruns_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = FilledStore(store)
    index = LineageIndex(store)
    found = reach(index, filled.midi[0].sha256)
    endless = iter(hashlib.sha256(b"%d" % n).hexdigest() for n in range(100))

    def more(*_: object) -> Reach:
        return dataclasses.replace(found, derived={next(endless): "mixes/new"})

    monkeypatch.setattr(takedown, "reach", more)
    with pytest.raises(Unavailable, match="running work"):
        take_down(index, asked_for_file(filled.midi[0].sha256), found, by="ann", reason="claim 7")


def curation_of(filled: FilledStore) -> Stub:
    """Lists two pages of clips and keeps the reviews."""

    def page(request: ListClipsRequest) -> ListClipsResponse:
        number = int(request.page_token or 0)
        clip = CuratedClip(clip_id=f"clip-{number}", audio=filled.clips[number])
        return ListClipsResponse(clips=[clip], next_page_token="" if number else "1")

    return Stub(ListClips=page, ReviewClips=ReviewClipsResponse())


def test_the_command_takes_down_and_readers_say_why(store: Store, tmp_path: Path) -> None:
    filled = FilledStore(store)
    curation = curation_of(filled)
    line = "takedown 'Artist/Song 1.mid' --reason 'the composer asked' --as ann --json --yes"
    assert luthier(f"{line} --dry-run", FakeClients(store, curation=curation)).document["clips"] == ["clip-1"]
    assert store.blobs.read(filled.clips[1])
    assert curation.requests("ReviewClips") == []
    assert luthier(line, FakeClients(store, curation=curation)).document["clips"] == ["clip-1"]
    with temp_store(tmp_path / "store") as elsewhere:
        for gone in (filled.midi[1], filled.mixes[1], filled.clips[1]):
            with pytest.raises(NotFound, match="taken down") as refused:
                elsewhere.blobs.read(gone)
            assert refused.value.reason == "ARTIFACT_TAKEN_DOWN"
        action = Action("render", [filled.midi[1].sha256])
        with pytest.raises(NotFound, match="taken down"):  # nor is it rendered anew
            elsewhere.actions.run(action, RenderSongResponse, RenderSongResponse)
        assert elsewhere.blobs.read(filled.clips[0])
    [review] = curation.requests("ReviewClips")
    assert ([clip.clip_id for clip in review.clips], review.verdict) == (["clip-1"], VERDICT_REJECTED)
    assert (review.reviewer, review.remark) == ("ann", "taken down: the composer asked")
    collected = luthier("gc --json", FakeClients(store, curation=curation)).document
    assert collected["went"]["taken down"] == {
        kind: [1, ref.size_bytes]
        for kind, ref in (("midi", filled.midi[1]), ("mixes", filled.mixes[1]), ("clips", filled.clips[1]))
    }


@pytest.mark.parametrize("name", ["tuned@1", "version", "way@1", "record"])
def test_a_takedown_of_a_name_is_refused_with_the_files_to_give(store: Store, name: str) -> None:
    filled = FilledStore(store)
    [[record]] = [
        [step.name for step in made] for made in LineageIndex(store).makers([filled.mixes[0].sha256]).values()
    ]
    names = {"version": f"sha256:{filled.tuned.digest}", "record": record}
    keys = {"way@1": filled.dataset.key, "record": filled.mixes[0].key}
    line = ["takedown", names.get(name, name), "--reason", "claim 7", "--json"]
    done = luthier(line, FakeClients(store, curation=curation_of(filled)))
    assert (done.code, done.document["error"]["reason"]) == (1, "NOT_A_FILE")
    assert keys.get(name, filled.tuned.checkpoint.key) in done.err
    assert not list(store.objects.keys("tombstones/"))


def test_a_path_that_means_two_files_is_refused_with_their_digests_and_collections(store: Store) -> None:
    filled = FilledStore(store)
    filled.announce("other", {"Artist/Song 0.mid": filled.midi[1], "Other/Song 0.mid": filled.midi[0]}, licence="")
    line = "takedown 'Artist/Song 0.mid' --reason 'claim 7' --json"
    done = luthier(line, FakeClients(store, curation=curation_of(filled)))
    assert done.document["error"]["reason"] == "NAME_AMBIGUOUS"
    assert f"{filled.midi[0].sha256} (corpora/way@1)" in done.err
    assert f"{filled.midi[1].sha256} (corpora/other@1)" in done.err
    assert not list(store.objects.keys("tombstones/"))
