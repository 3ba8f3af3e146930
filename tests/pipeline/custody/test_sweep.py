"""gc: what may go, and what must not, however work runs beside it."""

import os

import pytest

from luthier_pipeline.arguments import parser
from luthier_pipeline.custody import sweep as sweeping
from luthier_pipeline.custody.sweep import Rule, sweep
from tests.pipeline.custody.way import Way

EVERYTHING_IS_OLD = Rule(grace_s=-60, generated_s=-60)
ALL_IS_YOUNG = Rule(grace_s=3600, generated_s=3600)


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
