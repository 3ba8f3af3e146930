"""takedown: what goes with a file, what is told, and what running work adds."""

import dataclasses
import hashlib

import pytest

from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.artifacts import Action
from luthier_kit.errors import NotFound, Unavailable
from luthier_kit.models import register
from luthier_kit.testing import temp_store
from luthier_pipeline.custody import takedown as taking_down
from luthier_pipeline.custody.ledger import Ledger
from luthier_pipeline.custody.takedown import reach, take_down
from tests.pipeline.custody.way import Way


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
