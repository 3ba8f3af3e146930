"""gc, takedown and lineage over a store as the services leave it, in a folder and in MinIO."""

import dataclasses
import hashlib
import json
import os

import pytest

from luthier.analysis.v1.analysis_pb2 import CutClipsResponse
from luthier.curation.v1 import curation_pb2 as curation
from luthier.evaluation.v1.evaluation_pb2 import RowResult
from luthier.inference.v1.inference_pb2 import GenerateResponse
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.artifacts import Action, Artifacts
from luthier_kit.artifacts.testing import minio_server, open_store_at
from luthier_kit.errors import FailedPrecondition, NotFound, Unavailable
from luthier_kit.models import ModelVersion, register
from luthier_kit.testing import temp_store
from luthier_pipeline.arguments import parser
from luthier_pipeline.commands.context import Context
from luthier_pipeline.commands.custody import gc, lineage, takedown
from luthier_pipeline.custody import sweep as sweeping
from luthier_pipeline.custody import takedown as taking_down
from luthier_pipeline.custody.ancestry import trace
from luthier_pipeline.custody.ledger import Ledger
from luthier_pipeline.custody.sweep import Rule, sweep
from luthier_pipeline.custody.takedown import reach, take_down
from luthier_pipeline.resources import plain

EVERYTHING_IS_OLD = Rule(grace_s=-60, generated_s=-60)
ALL_IS_YOUNG = Rule(grace_s=3600, generated_s=3600)


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    with minio_server(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "minio"])
def store(request, tmp_path) -> Artifacts:
    where = tmp_path if request.param == "folder" else request.getfixturevalue("minio")
    store = open_store_at(where, f"b{abs(hash(request.node.nodeid)):x}"[:30])
    store.objects.ensure_bucket(create=True)
    return store


@pytest.fixture
def folder_store(tmp_path):
    with temp_store(tmp_path / "store") as store:
        yield store


@pytest.fixture(autouse=True)
def nothing_in_flight(monkeypatch):
    monkeypatch.setattr(taking_down, "SETTLED_S", 0)


class Way:
    """Two songs rendered, cut, frozen into a data set, a base and a tuned model, audio generated and evaluated."""

    def __init__(self, store: Artifacts) -> None:
        self.store = store
        self.midi = [self.blob("midi", f"song {n}", "mid") for n in range(2)]
        files = [{"path": f"Artist/Song {n}.mid", "sha256": ref.sha256} for n, ref in enumerate(self.midi)]
        corpus = self.blob("manifests", json.dumps({"licence": "CC0-1.0", "files": files}), "json")
        store.append("corpora/way", {"manifest": plain(corpus)})
        self.mixes = [self.render(ref) for ref in self.midi]
        self.clips = [self.cut(ref) for ref in self.mixes]
        self.dataset = self.freeze()
        self.base = self.model("base", {})
        self.tuned = self.model("tuned", {"base": "base@1", "base_digest": self.base.digest}, dataset=self.dataset)
        self.audio = self.generate("A rock song")
        self.judged = self.generate("A row of the suite")
        row = Action("evaluation-row", [self.tuned.digest, hashlib.sha256(b"row").hexdigest()])
        store.run(row, RowResult, lambda: RowResult(audio=self.judged))

    def blob(self, kind, text, ext="flac"):
        return self.store.put_bytes(kind, text.encode(), ext)

    def render(self, midi):
        mix = self.blob("mixes", f"mix of {midi.key}")
        action = Action("render", [midi.sha256], tools={"soundfont": "5f" * 32})
        self.store.run(action, RenderSongResponse, lambda: RenderSongResponse(mix=mix))
        return mix

    def cut(self, mix):
        clip = self.blob("clips", f"clip of {mix.key}")
        response = CutClipsResponse()
        response.clips.add(audio=clip)
        timeline = hashlib.sha256(b"a timeline").hexdigest()
        self.store.run(Action("cut", [mix.sha256, timeline]), CutClipsResponse, lambda: response)
        return clip

    def freeze(self):
        rows = [
            {
                "clip_id": f"clip-{n}",
                "audio": plain(clip),
                "prompts": [f"prompt {n}"],
                "source": {"midi_sha256": midi.sha256},
                "lineage": {"inputs": [midi.sha256, "actions/prompt/x.json"]},
                "licences": ["CC0-1.0"],
            }
            for n, (clip, midi) in enumerate(zip(self.clips, self.midi, strict=True))
        ]
        manifest = self.blob("manifests", json.dumps({"format": "luthier.dataset.v1", "rows": rows}), "json")
        self.store.append("datasets/way", {"manifest": plain(manifest), "splits": [{"metadata": {}}]})
        return manifest

    def model(self, name, notes, dataset=None):
        version = ModelVersion(
            name=name,
            checkpoint=self.blob("checkpoints", f"weights of {name}", "safetensors"),
            configuration=self.blob("configurations", "{}", "json"),
            dataset=dataset,
            dataset_name="way@1" if dataset else "",
            notes=notes,
        )
        return register(self.store, version)

    def generate(self, prompt):
        audio = self.blob("generated", prompt)
        action = Action("generate", [self.tuned.digest], {"prompt": prompt}, seed=5)
        self.store.run(action, GenerateResponse, lambda: GenerateResponse(audio=audio))
        return audio


def keys(store):
    return {found.key for found in store.objects.stored("") if "/" in found.key}


def test_gc_sweeps_what_nothing_reaches_and_keeps_the_rest(store):
    way = Way(store)
    crashed = way.blob("mixes", "a worker died before its record")
    in_curation = way.blob("clips", "only curation knows it")
    before = keys(store)
    assert sweep(store, ALL_IS_YOUNG, [in_curation.sha256]).blobs == 0
    told = sweep(store, EVERYTHING_IS_OLD, [in_curation.sha256], dry_run=True)
    assert keys(store) == before
    swept = sweep(store, EVERYTHING_IS_OLD, [in_curation.sha256])
    assert before - keys(store) == {crashed.key, way.audio.key}
    assert swept.went == told.went
    assert swept.went["unreferenced"] == {"mixes": [1, crashed.size_bytes]}
    assert swept.went["expired"] == {"generated": [1, way.audio.size_bytes]}  # way.judged is held by its evaluation
    assert (swept.blobs, swept.size_bytes) == (2, crashed.size_bytes + way.audio.size_bytes)
    assert sweep(store, EVERYTHING_IS_OLD, [in_curation.sha256]).blobs == 0


def test_expired_audio_is_made_again_when_it_is_asked_for_again(folder_store):
    way = Way(folder_store)
    sweep(folder_store, EVERYTHING_IS_OLD)
    assert not folder_store.exists(way.audio)
    way.generate("A rock song")
    assert folder_store.exists(way.audio)


def test_gc_keeps_what_is_written_again_or_recorded_while_it_looks(folder_store, monkeypatch):
    late = folder_store.put_bytes("mixes", b"late", "flac")
    documents = folder_store.objects.keys
    looks = []

    def keys_then_a_record(prefix):
        found = list(documents(prefix))
        if prefix == "" and not looks:
            looks.append(1)
            folder_store.append("models/late", {"checkpoint": late.sha256})
        return iter(found)

    monkeypatch.setattr(folder_store.objects, "keys", keys_then_a_record)
    sweep(folder_store, EVERYTHING_IS_OLD)
    assert folder_store.exists(late)


def after_each_delete(store, monkeypatch, happens):
    delete = store.objects.delete

    def deleted(key):
        delete(key)
        happens(key)

    monkeypatch.setattr(store.objects, "delete", deleted)
    monkeypatch.setattr(sweeping, "DELETES_AT_A_LOOK", 1)


def test_gc_keeps_what_is_written_again_while_it_deletes(folder_store, monkeypatch):
    refs = [folder_store.put_bytes("mixes", b"%d" % n, "flac") for n in range(2)]
    for ref in refs:
        os.utime(folder_store.objects._path(ref.key), (0, 0))
    after_each_delete(
        folder_store, monkeypatch, lambda _: [folder_store.put_bytes("mixes", b"%d" % n, "flac") for n in range(2)]
    )
    assert sweep(folder_store, ALL_IS_YOUNG).blobs == 1
    assert all(folder_store.exists(ref) for ref in refs)


def test_gc_keeps_what_is_recorded_while_it_deletes(folder_store, monkeypatch):
    refs = {ref.key: ref for ref in (folder_store.put_bytes("mixes", b"%d" % n, "flac") for n in range(3))}

    def recorded(gone):
        for key, ref in refs.items():
            if key != gone:
                folder_store.append("models/late", {"checkpoint": ref.sha256})

    after_each_delete(folder_store, monkeypatch, recorded)
    assert sweep(folder_store, EVERYTHING_IS_OLD).blobs == 1


@pytest.mark.parametrize("option", ["--older-than", "--generated-older-than"])
@pytest.mark.parametrize("hours", ["0", "0.9", "nan"])
def test_gc_has_a_grace_of_an_hour_at_least(capsys, option, hours):
    with pytest.raises(SystemExit):
        parser().parse_args(["gc", option, hours])
    assert f"{option}: must be between 1 and 87660 hours, got {hours}" in capsys.readouterr().err


def test_a_takedown_reaches_what_was_made_of_the_song_and_names_what_learned_from_it(store):
    way = Way(store)
    found = reach(Ledger(store), way.midi[0].sha256)
    assert set(found.derived.values()) == {way.midi[0].key, way.mixes[0].key, way.clips[0].key}
    assert (found.datasets, found.models) == (["way@1"], ["tuned@1"])
    assert set(found.generated) == {way.audio.key, way.judged.key}


def test_a_model_goes_with_its_checkpoint(store):
    way = Way(store)
    promoted = register(store, dataclasses.replace(way.tuned, name="served"))
    found = take_down(store, reach(Ledger(store), way.tuned.checkpoint.sha256), by="ann", reason="claim 7")
    assert found.unserved == ["served@1", "tuned@1"]
    assert set(found.generated) == {way.audio.key, way.judged.key}
    for refused in (lambda: store.read(promoted.checkpoint), lambda: way.generate("Another song")):
        with pytest.raises(NotFound, match="taken down"):
            refused()
    assert store.read(way.audio)


def test_a_takedown_names_the_models_tuned_from_a_checkpoint_and_the_data_set_of_a_manifest(folder_store):
    way = Way(folder_store)
    ledger = Ledger(folder_store)
    base = reach(ledger, way.base.checkpoint.sha256)
    assert (base.unserved, base.models) == (["base@1"], ["tuned@1"])
    manifest = reach(ledger, way.dataset.sha256)
    assert (manifest.datasets, manifest.models) == (["way@1"], ["tuned@1"])


def test_what_another_song_also_made_is_left_and_told_with_what_came_of_it(folder_store):
    way = Way(folder_store)
    silence = way.blob("stems", "silence")
    for mix in way.mixes:
        response = RenderSongResponse(mix=silence)
        folder_store.run(Action("separate", [mix.sha256]), RenderSongResponse, lambda r=response: r)
    clip = way.cut(silence)
    found = reach(Ledger(folder_store), way.midi[0].sha256)
    assert found.shared == [silence.key]
    assert set(found.derived.values()) == {way.midi[0].key, way.mixes[0].key, way.clips[0].key}
    take_down(folder_store, found, by="ann", reason="claim 7")
    assert folder_store.read(silence)
    assert folder_store.read(clip)
    _, reused = folder_store.run(Action("separate", [way.mixes[1].sha256]), RenderSongResponse, RenderSongResponse)
    assert reused


def test_bytes_that_come_of_themselves_again_are_no_other_songs(folder_store):
    way = Way(folder_store)
    [mix, _] = way.mixes
    folder_store.run(Action("trim", [mix.sha256]), RenderSongResponse, lambda: RenderSongResponse(mix=mix))
    assert mix.sha256 in reach(Ledger(folder_store), way.midi[0].sha256).derived


def test_a_takedown_begins_with_the_file_itself_and_finds_what_was_in_flight(folder_store, monkeypatch):
    way = Way(folder_store)
    late = []

    def commit_in_flight(_):
        if not late:
            with temp_store(folder_store.objects.root) as elsewhere:
                monkeypatch.setattr(elsewhere._tombstones, "check", lambda *_: None)  # it looked before the takedown
                late.append(elsewhere.put_bytes("latents", b"late", "safetensors"))
                response = RenderSongResponse(mix=late[0])
                elsewhere.run(Action("encode", [way.clips[0].sha256]), RenderSongResponse, lambda: response)

    monkeypatch.setattr(taking_down.time, "sleep", commit_in_flight)
    found = take_down(folder_store, reach(Ledger(folder_store), way.midi[0].sha256), by="ann", reason="claim 7")
    assert next(iter(found.derived)) == way.midi[0].sha256
    assert found.derived[late[0].sha256] == late[0].key
    with pytest.raises(NotFound, match="taken down"):
        folder_store.read(late[0])


def test_a_takedown_that_work_outruns_says_so(folder_store, monkeypatch):
    way = Way(folder_store)
    found = reach(Ledger(folder_store), way.midi[0].sha256)
    endless = iter(hashlib.sha256(b"%d" % n).hexdigest() for n in range(100))
    more = lambda *_: dataclasses.replace(found, derived={next(endless): "mixes/new"})  # noqa: E731
    monkeypatch.setattr(taking_down, "reach", more)
    with pytest.raises(Unavailable, match="running work"):
        take_down(folder_store, found, by="ann", reason="claim 7")


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
