"""Leak-free splits: every clip of a song falls where the stable hash of the song's fingerprint says.

Renders, stems, variations and duplicates of a song share its fingerprint, so they share its split, today and in every
later export. Near-duplicates are a group, which falls where the smallest of its fingerprints does. The one exception is
stated: a collection of at least three songs that the hash leaves without a song to train or to validate on gets one
from its largest split, always the same one. As the collection grows the hash alone decides.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from luthier_kit.rpc import TEST, TRAIN, VALIDATION

SMALLEST_FOR_FALLBACK = 3
"""songs; with fewer, two splits cannot both hold one and a third remain."""


@dataclass(frozen=True)
class Fractions:
    """Shares of songs, each 0 to 1, together 1."""

    train: float = 0.8
    validation: float = 0.1
    test: float = 0.1

    @classmethod
    def holding_out(cls, validation: float, test: float) -> "Fractions":
        """The rest is for training; rounded, so that equal requests are equal manifests."""
        return cls(round(1 - validation - test, 9), validation, test)


def position(fingerprint: str) -> float:
    """Where a song lies on [0, 1): the first 64 bits of SHA-256 of its fingerprint."""
    return int(hashlib.sha256(fingerprint.encode()).hexdigest()[:16], 16) / 2**64


def split_of(fingerprint: str, fractions: Fractions) -> str:
    """A song's split by hash alone: test, then validation, then train, from 0 upward."""
    at = position(fingerprint)
    if at < fractions.test:
        return TEST
    return VALIDATION if at < fractions.test + fractions.validation else TRAIN


@dataclass(frozen=True)
class Assignment:
    """The split of each fingerprint, and the songs that the small-collection rule moved."""

    splits: dict[str, str]
    moved: list[str]


def assign(fingerprints: Iterable[str], fractions: Fractions) -> Assignment:
    """Splits for a collection's songs. Depends on the set of fingerprints only, not on their order."""
    songs = sorted(set(fingerprints), key=lambda song: (position(song), song))
    splits = {song: split_of(song, fractions) for song in songs}
    moved: list[str] = []
    if len(songs) < SMALLEST_FOR_FALLBACK:
        return Assignment(splits, moved)
    for wanted, share in ((TRAIN, fractions.train), (VALIDATION, fractions.validation)):
        if share > 0 and wanted not in splits.values():
            song = _moved_song(songs, splits)
            splits[song] = wanted
            moved.append(song)
    return Assignment(splits, moved)


def groups(related: Iterable[tuple[str, Iterable[str]]]) -> dict[str, str]:
    """Of each song (fingerprint, fingerprints of its near-duplicates) the smallest fingerprint of its group.

    Near-duplicates of near-duplicates are in one group, in whatever order they came.
    """
    group: dict[str, str] = {}

    def root(song: str) -> str:
        while (parent := group.setdefault(song, song)) != song:
            song = parent
        return song

    for song, others in related:
        for other in (song, *others):
            low, high = sorted((root(song), root(other)))
            group[high] = low
    return {song: root(song) for song in list(group)}


def _moved_song(songs: list[str], splits: dict[str, str]) -> str:
    """The song of the largest split (train, test, validation on a tie) that lies nearest to 0."""
    members = {name: [song for song in songs if splits[song] == name] for name in (TRAIN, TEST, VALIDATION)}
    return max(members.values(), key=len)[0]
