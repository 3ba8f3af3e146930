"""Outlines of songs come back from the store as they went."""

import random

import numpy as np

from luthier.pipeline.v1.pipeline_pb2 import SongOutlines
from luthier.rendering.v1.rendering_pb2 import NoteSignature, VoiceSignature
from luthier_kit.store import Store
from luthier_pipeline.near_duplicates import Outline, Sketch
from luthier_pipeline.outlines import keep_outlines, outlines_key, read_outlines


def outline(seed: int, longs: int, shorts: int = 0) -> Outline:
    draw = random.Random(seed)
    long, short = (sorted(draw.sample(range(1 << 32), count)) for count in (longs, shorts))
    return Sketch.of(NoteSignature(voices=[VoiceSignature(hashes=long, short_hashes=short)])).outline


SONGS = {f"{seed % 16:x}{'ab' * 31}{seed:x}": outline(seed, 40 * seed, 30 if seed % 3 else 0) for seed in range(16)}


def assert_same(found: dict[str, Outline], songs: dict[str, Outline]) -> None:
    assert found.keys() == songs.keys()
    for name, song in songs.items():
        assert (found[name].longs, found[name].all) == (song.longs, song.all)
        np.testing.assert_array_equal(found[name].long, song.long)
        np.testing.assert_array_equal(found[name].every, song.every)


def test_outlines_come_back_as_they_went(store: Store) -> None:
    keep_outlines(store, "book", "one", SONGS)
    assert_same(read_outlines(store, "book", "one"), SONGS)
    assert read_outlines(store, "other", "one") == {}


def test_those_of_another_configuration_are_none(store: Store) -> None:
    keep_outlines(store, "book", "one", SONGS)
    assert read_outlines(store, "book", "another") == {}


def test_numbers_that_do_not_fit_are_none(store: Store) -> None:
    keep_outlines(store, "book", "one", SONGS)
    changes = {"1": SongOutlines(hashes=b"\0" * 6), "2": SongOutlines(longs=[1]), "3": SongOutlines(all_kept=[1 << 20])}
    for digit, change in changes.items():
        kept = store.note(SongOutlines, outlines_key("book", digit))
        assert kept is not None
        if change.hashes:
            kept.ClearField("hashes")
        kept.MergeFrom(change)
        store.put_note(outlines_key("book", digit), kept)
    found = read_outlines(store, "book", "one")
    assert_same(found, {name: song for name, song in SONGS.items() if name[0] not in "123"})


def test_a_new_song_is_one_document_written_anew(store: Store) -> None:
    few = {name: song for name, song in SONGS.items() if name[0] != "5"}
    keep_outlines(store, "book", "one", few)
    before = {found.key: found.written_at for found in store.objects.stored("songs/")}
    keep_outlines(store, "book", "one", SONGS)
    after = {found.key: found.written_at for found in store.objects.stored("songs/")}
    assert {key for key in after if after[key] != before.get(key)} == {outlines_key("book", "5")}
