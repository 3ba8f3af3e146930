"""gc, takedown and lineage as they are typed, and what names mean."""

import json

import pytest

from luthier.curation.v1 import curation_pb2 as curation
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.artifacts import Action
from luthier_kit.errors import FailedPrecondition, NotFound, Unavailable
from luthier_kit.testing import temp_store
from luthier_pipeline.arguments import parser
from luthier_pipeline.commands.context import Context
from luthier_pipeline.commands.custody import gc, lineage, takedown
from luthier_pipeline.custody.ancestry import trace
from luthier_pipeline.custody.ledger import Ledger
from luthier_pipeline.resources import plain
from tests.pipeline.custody.way import Way


def test_lineage_walks_back_from_audio_to_midi_soundfont_prompts_data_set_and_models(store):
    way = Way(store)
    document = trace(Ledger(store), way.audio.sha256).document()
    assert {(song["sha256"], song["path"]) for song in document["midi"]} == {
        (ref.sha256, f"Artist/Song {n}.mid") for n, ref in enumerate(way.midi)
    }
    assert document["tools"] == {"soundfont": "5f" * 32}
    assert set(document["prompts"]) == {"A rock song", "prompt 0", "prompt 1"}
    assert document["datasets"] == ["way@1"]
    assert set(document["models"]) == {"tuned@1", "base@1"}
    assert document["licences"] == ["CC0-1.0"]


class Curation:
    """Lists two pages of clips and keeps the reviews."""

    def __init__(self, way: Way) -> None:
        self.way, self.reviews = way, []

    def call(self, method, request, **_):
        if method == "ReviewClips":
            kept = curation.ReviewClipsRequest()
            kept.CopyFrom(request)
            self.reviews.append(kept)
            return curation.ReviewClipsResponse()
        page = int(request.page_token or 0)
        answer = curation.ListClipsResponse(next_page_token="" if page else "1")
        answer.clips.add(clip_id=f"clip-{page}", audio=self.way.clips[page])
        return answer


class Place(dict):
    """Services by name, and a store."""

    def __init__(self, store, service):
        super().__init__(curation=service)
        self.store = store


def asked(line, store, service):
    return Context(parser().parse_args(line), Place(store, service))


def test_the_command_takes_down_and_readers_say_why(folder_store, tmp_path, capsys):
    way = Way(folder_store)
    service = Curation(way)
    line = ["takedown", "Artist/Song 1.mid", "--reason", "the composer asked", "--as", "ann", "--json"]
    takedown(asked([*line, "--dry-run"], folder_store, service))
    assert folder_store.read(way.clips[1])
    takedown(asked(line, folder_store, service))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["clips"] == ["clip-1"]
    with temp_store(tmp_path / "store") as elsewhere:
        for gone in (way.midi[1], way.mixes[1], way.clips[1]):
            with pytest.raises(NotFound, match="taken down") as refused:
                elsewhere.read(gone)
            assert refused.value.reason == "ARTIFACT_TAKEN_DOWN"
        with pytest.raises(NotFound, match="taken down"):  # nor is it rendered anew
            elsewhere.run(Action("render", [way.midi[1].sha256]), RenderSongResponse, RenderSongResponse)
        assert elsewhere.read(way.clips[0])
    [review] = service.reviews
    assert ([clip.clip_id for clip in review.clips], review.verdict) == (["clip-1"], curation.VERDICT_REJECTED)
    gc(asked(["gc", "--json"], folder_store, service))
    assert json.loads(capsys.readouterr().out)["went"]["taken down"] == {
        kind: [1, ref.size_bytes]
        for kind, ref in (("midi", way.midi[1]), ("mixes", way.mixes[1]), ("clips", way.clips[1]))
    }


@pytest.mark.parametrize("name", ["tuned@1", "version", "way@1", "record"])
def test_a_takedown_of_a_name_is_refused_with_the_files_to_give(folder_store, name):
    way = Way(folder_store)
    record = next(step.name for step in Ledger(folder_store).steps if step.outputs == (way.mixes[0].sha256,))
    names = {"version": f"sha256:{way.tuned.digest}", "record": record}
    keys = {"way@1": way.dataset.key, "record": way.mixes[0].key}
    with pytest.raises(FailedPrecondition, match=keys.get(name, way.tuned.checkpoint.key)):
        takedown(asked(["takedown", names.get(name, name), "--reason", "claim 7"], folder_store, Curation(way)))
    assert not list(folder_store.objects.keys("tombstones/"))


def test_a_path_that_means_two_files_is_refused_with_their_digests_and_collections(folder_store):
    way = Way(folder_store)
    files = [
        {"path": "Artist/Song 0.mid", "sha256": way.midi[1].sha256},
        {"path": "Other/Song 0.mid", "sha256": way.midi[0].sha256},
    ]
    other = way.blob("manifests", json.dumps({"licence": "", "files": files}), "json")
    folder_store.append("corpora/other", {"state": "failed"})
    folder_store.append("corpora/other", {"manifest": plain(other)})
    with pytest.raises(FailedPrecondition) as refused:
        takedown(asked(["takedown", "Artist/Song 0.mid", "--reason", "claim 7"], folder_store, Curation(way)))
    assert f"{way.midi[0].sha256} (corpora/way@1)" in str(refused.value)
    assert f"{way.midi[1].sha256} (corpora/other@2)" in str(refused.value)
    assert not list(folder_store.objects.keys("tombstones/"))


def test_a_store_that_is_down_is_not_taken_for_one_without_data_sets(folder_store, monkeypatch):
    Way(folder_store)

    def down(*_, **__):
        raise Unavailable("the store does not answer")

    monkeypatch.setattr(folder_store, "read", down)
    with pytest.raises(Unavailable):
        Ledger(folder_store)


@pytest.mark.parametrize("name", ["key", "digest", "sha256:digest", "file"])
def test_a_file_is_known_by_its_key_its_digest_or_its_bytes(folder_store, tmp_path, capsys, name):
    way = Way(folder_store)
    copy = tmp_path / "copy.flac"
    copy.write_bytes(folder_store.read(way.audio))
    digest = way.audio.sha256
    names = {"key": way.audio.key, "digest": digest, "sha256:digest": f"sha256:{digest}", "file": str(copy)}
    lineage(asked(["lineage", names[name], "--json"], folder_store, None))
    assert json.loads(capsys.readouterr().out)["sha256"] == digest


def test_the_tree_is_for_people(folder_store, capsys):
    way = Way(folder_store)
    lineage(asked(["lineage", "tuned@1"], folder_store, None))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.strip().startswith("model  tuned@1") for line in lines)
    assert any(line.strip() == f"{way.midi[0].key}  Artist/Song 0.mid  CC0-1.0" for line in lines)
    assert any(f"{way.clips[0].key}" in line and '"prompt 0"' in line for line in lines)


@pytest.mark.parametrize("name", ["nobody@1", "0" * 64, __file__])
def test_what_the_store_does_not_know_is_said(folder_store, name):
    with pytest.raises(NotFound):
        lineage(asked(["lineage", name], folder_store, None))
