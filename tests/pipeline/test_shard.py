"""Shards: each song in exactly one, for ever."""

import hashlib
import random
from collections import Counter

import pytest

from luthier_pipeline.corpus import Entry
from luthier_pipeline.shard import Shard, parse, shard_of

SONGS = [Entry(f"{n}.mid", fingerprint=hashlib.sha256(str(n).encode()).hexdigest()) for n in range(1000)]


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_every_song_is_in_exactly_one_shard(count):
    taken = Counter(song.path for index in range(count) for song in Shard(index, count).of(SONGS))
    assert taken == Counter(song.path for song in SONGS)


def test_shards_are_about_equal():
    sizes = [len(Shard(index, 8).of(SONGS)) for index in range(8)]
    assert min(sizes) > 90
    assert max(sizes) < 160


def test_order_and_company_do_not_move_a_song():
    mixed = random.Random(1).sample(SONGS, 500)
    assert {s.path for s in Shard(3, 5).of(mixed)} == {s.path for s in Shard(3, 5).of(SONGS)} & {s.path for s in mixed}


def test_the_rule_is_the_digest_of_the_fingerprint():
    """Written down so that a change is seen: Pods of two versions must agree."""
    digest = hashlib.sha256(b"fingerprint").hexdigest()
    assert shard_of("fingerprint", 1000) == int(digest[:16], 16) % 1000


def test_a_shard_is_named_or_comes_from_the_job():
    assert parse("", 0, {}) == Shard(0, 1)
    assert parse("2/4", 0, {"JOB_COMPLETION_INDEX": "1"}) == Shard(2, 4)
    assert parse("", 4, {"JOB_COMPLETION_INDEX": "3"}) == Shard(3, 4)


@pytest.mark.parametrize(
    ("text", "shards", "environ"),
    [("4/4", 0, {}), ("-1/4", 0, {}), ("1", 0, {}), ("a/b", 0, {}), ("0/0", 0, {}), ("", 4, {}),
     ("", 2, {"JOB_COMPLETION_INDEX": "2"}), ("0/99999", 0, {})],
)  # fmt: skip
def test_what_is_no_shard_is_refused(text, shards, environ):
    with pytest.raises(ValueError, match=r"must be I/N|is missing"):
        parse(text, shards, environ)
