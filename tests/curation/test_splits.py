"""Splits: by song, by a stable hash, and usable for small collections."""

import hashlib

import pytest

from luthier_curation.splits import Fractions, assign, groups, position, split_of
from luthier_kit.rpc import TEST, TRAIN, VALIDATION

TENTHS = Fractions(0.8, 0.1, 0.1)


def songs(count: int, prefix: str = "song") -> list[str]:
    return [hashlib.sha256(f"{prefix}{index}".encode()).hexdigest() for index in range(count)]


def test_a_song_lies_where_sha_256_says() -> None:
    assert position("abc") == 0xBA7816BF8F01CFEA / 2**64  # FIPS 180-2, appendix B.1: SHA-256 of "abc"


def test_a_song_keeps_its_split_when_others_come_or_go() -> None:
    many = songs(200)
    whole = assign(many, TENTHS).splits
    half = assign(many[::2], TENTHS).splits
    assert all(whole[song] == split for song, split in half.items())


def test_the_shares_are_those_asked_for() -> None:
    splits = list(assign(songs(4000), Fractions(0.7, 0.2, 0.1)).splits.values())
    shares = [splits.count(name) / 4000 for name in (TRAIN, VALIDATION, TEST)]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.02)


def test_the_order_of_songs_does_not_matter() -> None:
    assert assign(songs(7), TENTHS) == assign(reversed(songs(7)), TENTHS)


@pytest.mark.parametrize("count", range(3, 40))
@pytest.mark.parametrize("prefix", ["a", "b", "c"])
def test_three_songs_are_enough_to_train_and_validate(count: int, prefix: str) -> None:
    splits = assign(songs(count, prefix), TENTHS).splits.values()
    assert {TRAIN, VALIDATION} <= set(splits)


def test_only_songs_that_were_moved_leave_the_place_that_the_hash_gives() -> None:
    for count in range(1, 30):
        found = assign(songs(count), TENTHS)
        elsewhere = [song for song, split in found.splits.items() if split != split_of(song, TENTHS)]
        assert sorted(elsewhere) == sorted(found.moved)


def test_two_songs_are_left_where_the_hash_puts_them() -> None:
    assert assign(songs(2), TENTHS).moved == []


def test_no_validation_is_forced_on_who_wants_none() -> None:
    assert set(assign(songs(9), Fractions(1, 0, 0)).splits.values()) == {TRAIN}


def test_all_songs_in_test_by_hash_still_leave_some_to_train_and_validate() -> None:
    low = [song for song in songs(500) if position(song) < 0.1][:3]
    found = assign(low, TENTHS)
    assert sorted(found.splits.values()) == [TEST, TRAIN, VALIDATION]
    assert len(found.moved) == 2


def test_near_duplicates_of_near_duplicates_are_one_group() -> None:
    found = groups([("d", []), ("c", ["b"]), ("e", ["f"]), ("a", ["b"])])
    assert found == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e", "f": "e"}


def test_a_group_does_not_depend_on_the_order_in_which_its_songs_come() -> None:
    pairs = [(f"{n:03}", [f"{n + 1:03}"]) for n in range(300)]
    assert set(groups(pairs).values()) == set(groups(reversed(pairs)).values()) == {"000"}
