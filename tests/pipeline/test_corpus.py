"""A corpus: what is a duplicate, its manifest, how shards find it, and which songs each takes."""

import hashlib
import itertools
import random
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from luthier.pipeline.v1.pipeline_pb2 import NEAR_DUPLICATES_DROP, NEAR_DUPLICATES_KEEP, CorpusFile, SongFailure
from luthier.rendering.v1.rendering_pb2 import NoteSignature, VoiceSignature
from luthier_kit.rpc import DeadlineExceeded, FailedPrecondition, InvalidRequest, Unavailable
from luthier_kit.store import Store
from luthier_pipeline import corpus as corpora
from luthier_pipeline.corpus import (
    Corpus,
    Shard,
    StoredCorpus,
    as_name,
    corpus_of,
    earlier_of,
    newest_corpus,
    parse_shard,
    put_manifest,
    read_manifest,
    shard_of,
)
from luthier_pipeline.near_duplicates import Sketch, Sketches


def file(path: str, fingerprint: str = "", failed: bool = False) -> CorpusFile:
    failure = SongFailure(path=path, stage="ingest", reason="MIDI_EMPTY") if failed else None
    return CorpusFile(path=path, fingerprint=fingerprint, failure=failure)


CORPUS = corpus_of([file("a.mid", "f")], "CC0-1.0")
SONGS = [file(f"{n}.mid", hashlib.sha256(str(n).encode()).hexdigest()) for n in range(1000)]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "LOOK_EVERY_S", 0.05)


def wait_for(store: Store, run: str = "", wait_s: float = 5.0) -> StoredCorpus:
    return corpora.wait_for(store, "book", run, wait_s, lambda _: None)


def test_of_files_with_the_same_notes_the_plainest_name_stays() -> None:
    corpus = corpus_of([file("A/Song.1.mid", "f"), file("A/Song.mid", "f"), file("A/Other.mid", "g")], "")
    assert [found.duplicate_of for found in corpus.manifest.files] == ["A/Song.mid", "", ""]
    assert [song.path for song in corpus.songs] == ["A/Song.mid", "A/Other.mid"]


def test_files_are_songs_duplicates_and_failures() -> None:
    counts = corpus_of([file("a.mid", "f"), file("b.mid", "f"), file("c.mid", failed=True)], "").counts
    assert (counts.files, counts.songs, counts.duplicates, counts.failed) == (3, 1, 1, 1)


def test_a_manifest_survives_the_round_trip_and_the_same_corpus_is_the_same_blob(store: Store) -> None:
    corpus = corpus_of([file("a.mid", "f"), file("c.mid", failed=True)], "CC0-1.0")
    ref = put_manifest(store, corpus)
    again = read_manifest(store, ref)
    assert again == corpus
    assert put_manifest(store, again) == ref


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"version": 9, "files": [{"path": "a"}]}', b'{"version": 1}', b'{"format": "x", "rows": []}']
)
def test_what_is_no_manifest_is_refused(store: Store, data: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_manifest(store, store.blobs.put_bytes("manifests", data, "json"))
    assert refused.value.reason == "MANIFEST_INVALID"


def test_what_a_collection_rendered_is_known_after_another_folder(store: Store) -> None:
    corpora.publish(store, "book", "r1", CORPUS, None)
    other = corpus_of([file("b.mid", "g")], "", earlier=earlier_of(newest_corpus(store, "book")))
    corpora.publish(store, "book", "r2", other, None)
    earlier = earlier_of(newest_corpus(store, "book"))
    assert earlier.rendered == {"f", "g"}
    assert [song.path for song in earlier.songs] == ["a.mid", "b.mid"]


def test_what_was_kept_once_and_is_dropped_now_was_rendered_all_the_same(store: Store) -> None:
    """In a later folder that has neither, too."""
    notes = NoteSignature(voices=[VoiceSignature(hashes=range(100))])
    alike = Sketches.of({"f": Sketch.of(notes), "g": Sketch.of(notes)})
    both = [file("a.mid", "f"), file("b.mid", "g")]
    corpora.publish(store, "book", "r1", corpus_of(both, "", alike, NEAR_DUPLICATES_KEEP), None)
    for run, files in (("r2", both), ("r3", both), ("r4", [file("c.mid", "h")])):
        corpus = corpus_of(files, "", alike, NEAR_DUPLICATES_DROP, earlier_of(newest_corpus(store, "book")))
        corpora.publish(store, "book", run, corpus, None)
        assert len(corpus.songs) == 1
        assert {"f", "g"} <= earlier_of(newest_corpus(store, "book")).rendered
    assert [song.path for song in corpus.manifest.earlier] == ["a.mid", "b.mid"]


def test_a_near_duplicate_that_was_never_rendered_is_not_known_as_rendered(store: Store) -> None:
    notes = NoteSignature(voices=[VoiceSignature(hashes=range(100))])
    alike = Sketches.of({"f": Sketch.of(notes), "g": Sketch.of(notes)})
    corpus = corpus_of([file("a.mid", "f"), file("b.mid", "g")], "", alike, NEAR_DUPLICATES_DROP)
    corpora.publish(store, "book", "r1", corpus, None)
    assert earlier_of(newest_corpus(store, "book")).rendered == {"f"}


def test_names_become_safe_collection_names() -> None:
    assert [as_name(text) for text in ("Clean MIDI", "../x", "")] == ["clean-midi", "x", "collection"]


def test_a_shard_waits_until_the_manifest_is_written(store: Store) -> None:
    threading.Timer(0.3, corpora.publish, (store, "book", "r", CORPUS, None)).start()
    began = time.monotonic()
    assert wait_for(store, "r").corpus == CORPUS
    assert time.monotonic() - began > 0.25


def test_a_shard_takes_its_own_runs_manifest_and_the_first_of_them(store: Store) -> None:
    sheet = store.blobs.put_bytes("sheets", b"x", "csv", "text/csv")
    first = corpora.publish(store, "book", "mine", CORPUS, sheet)
    corpora.publish(store, "book", "mine", Corpus(corpus_of(SONGS, "").manifest), None)
    corpora.publish(store, "book", "other", CORPUS, None)
    found = wait_for(store, "mine")
    assert (found.manifest, found.sheet, found.run) == (first.manifest, sheet, "mine")
    newest = wait_for(store)
    assert (newest.run, newest.sheet) == ("other", None)


def test_another_runs_manifest_is_not_taken(store: Store) -> None:
    corpora.publish(store, "book", "old", CORPUS, None)
    with pytest.raises(DeadlineExceeded, match=r"no manifest after 0\.2 s"):
        wait_for(store, "new", 0.2)


def test_a_folder_that_cannot_be_used_ends_the_waiting_at_once(store: Store) -> None:
    corpora.publish_failure(store, "book", "r", InvalidRequest("the folder is empty", reason="FOLDER_EMPTY"))
    with pytest.raises(FailedPrecondition, match="FOLDER_EMPTY: the folder is empty"):
        wait_for(store, "r")


def test_an_ingest_that_may_try_again_is_given_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora.publish_failure(store, "book", "r", Unavailable("no renderer", reason="UNREACHABLE"))
    with pytest.raises(DeadlineExceeded, match="it may try again: UNREACHABLE"):
        wait_for(store, "r", 0.2)
    monkeypatch.setattr(corpora, "ANOTHER_TRY_S", 0.0)
    with pytest.raises(FailedPrecondition, match="no renderer"):
        wait_for(store, "r")


def test_a_store_that_is_away_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora.publish(store, "book", "r", CORPUS, None)
    get, failures = store.objects.get, [Unavailable("away", reason="STORE_UNAVAILABLE")]

    def fail_once(key: str, max_bytes: int) -> bytes | None:
        if failures:
            raise failures.pop()
        return get(key, max_bytes)

    monkeypatch.setattr(store.objects, "get", fail_once)
    assert wait_for(store, "r").corpus == CORPUS


def test_a_shard_reads_its_own_part_of_the_manifest(store: Store) -> None:
    written = corpora.publish(store, "book", "r", corpus_of(SONGS, "CC0-1.0"), None, 4)
    store.objects.delete(written.manifest.key)
    found = corpora.wait_for(store, "book", "r", 5.0, lambda _: None, Shard(2, 4))
    assert found.corpus.songs == Shard(2, 4).of(written.corpus.songs)
    assert (found.songs, found.manifest, found.corpus.manifest.licence) == (1000, written.manifest, "CC0-1.0")


def test_a_shard_of_another_number_reads_the_whole_manifest(store: Store) -> None:
    written = corpora.publish(store, "book", "r", corpus_of(SONGS, ""), None, 4)
    found = corpora.wait_for(store, "book", "r", 5.0, lambda _: None, Shard(2, 5))
    assert (found.songs, found.corpus) == (1000, written.corpus)


def test_parts_of_earlier_manifests_go(store: Store) -> None:
    corpora.publish(store, "book", "r", CORPUS, None, 4)
    newest = corpora.publish(store, "book", "s", corpus_of(SONGS, ""), None, 3)
    kept = {corpora.part_key("book", newest.manifest, Shard(index, 3)) for index in range(3)}
    assert set(store.objects.keys("songs/book/parts/")) == kept


def test_a_shard_that_has_waited_long_looks_seldom(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within an hour: 2,000 shards that look every two seconds list three and a half million times."""
    clock = itertools.accumulate(itertools.repeat(0.001))
    slept = [0.0]
    monkeypatch.setattr(corpora, "LOOK_EVERY_S", 2.0)
    fake = SimpleNamespace(
        monotonic=lambda: next(clock) + sum(slept), time=time.time, sleep=lambda pause_s: slept.append(pause_s)
    )
    monkeypatch.setattr(corpora, "time", fake)
    with pytest.raises(DeadlineExceeded):
        wait_for(store, "r", 3600.0)
    assert len(slept) < 250
    assert max(slept) == 30.0


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_every_song_is_in_exactly_one_shard(count: int) -> None:
    taken = Counter(song.path for index in range(count) for song in Shard(index, count).of(SONGS))
    assert taken == Counter(song.path for song in SONGS)


def test_shards_are_about_equal() -> None:
    sizes = [len(Shard(index, 8).of(SONGS)) for index in range(8)]
    assert min(sizes) > 90
    assert max(sizes) < 160


def test_order_and_company_do_not_move_a_song() -> None:
    mixed = random.Random(1).sample(SONGS, 500)
    assert {s.path for s in Shard(3, 5).of(mixed)} == {s.path for s in Shard(3, 5).of(SONGS)} & {s.path for s in mixed}


def test_the_rule_is_the_digest_of_the_fingerprint() -> None:
    """Written down so that a change is seen: Pods of two versions must agree."""
    digest = hashlib.sha256(b"fingerprint").hexdigest()
    assert shard_of("fingerprint", 1000) == int(digest[:16], 16) % 1000


def test_a_shard_is_named_or_comes_from_the_job() -> None:
    assert parse_shard("", 0, {}) == Shard(0, 1)
    assert parse_shard("2/4", 0, {"JOB_COMPLETION_INDEX": "1"}) == Shard(2, 4)
    assert parse_shard("", 4, {"JOB_COMPLETION_INDEX": "3"}) == Shard(3, 4)


@pytest.mark.parametrize(
    ("text", "shards", "environ"),
    [("4/4", 0, {}), ("-1/4", 0, {}), ("1", 0, {}), ("a/b", 0, {}), ("0/0", 0, {}), ("", 4, {}),
     ("", 2, {"JOB_COMPLETION_INDEX": "2"}), ("0/99999", 0, {})],
)  # fmt: skip
def test_what_is_no_shard_is_refused(text: str, shards: int, environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must be I/N|is missing"):
        parse_shard(text, shards, environ)
