"""Near-duplicates among the songs of a corpus, by the signatures of their notes.

Each song is a set of hashes of short runs of notes, apart for each voice (`NoteSignature`). Songs that may be
near-duplicates are found as Broder found web pages ("On the resemblance and containment of documents", 1997; "Syntactic
Clustering of the Web", 1997): those that share some of their smallest hashes, by one sort of all of them, so that the
cost grows with the number of songs and not with its square. Each such pair is then measured on all its hashes.

Songs are near-duplicates when one *holds* the other: at least SAME of the other's hashes are its own, and at least
VOICE_SAME of each voice's. The first lets tracks be dropped and passages be cut. The second tells a song whose track
was dropped from one whose track is another, such as another melody over the same accompaniment: that is another song.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier.rendering.v1.rendering_pb2 import NoteSignature

SAME: Final = 0.6
"""Of 82 real songs no two share more than 0.1; variants of one share 0.76 and more (tests/bench/near_duplicates.py)."""
VOICE_SAME: Final = 0.45
APART: Final = 0.2
"""Songs that share less have nothing in common: two that share SAME of a third, and are as long, share 2 * SAME - 1."""
_FEW: Final = 24  # with fewer hashes the smaller song must be that share of the larger one: a phrase is in many songs
TOO_FEW: Final = 8  # with fewer nothing can be said
_OF_A_VOICE: Final = 16  # smaller voices are taken together: one note more or less changes up to a dozen hashes
_SMALLEST: Final = 128  # hashes of a song by which candidates are found
_NEIGHBOURS: Final = 16  # songs with the same hash that a song is held against; common hashes say little
_SHARED: Final = 3  # hashes of candidates, at least
_SHARED_OF_SAME: Final = 0.5  # what candidates share of their smallest hashes, against what near-duplicates would
_ALL: Final = 1 << 32

Hashes = NDArray[np.uint32]


@dataclass(frozen=True)
class Voice:
    """Hashes of one voice, ascending: of six intervals, and of fewer with their durations."""

    long: Hashes
    short: Hashes


@dataclass(frozen=True)
class Outline:
    """The smallest hashes of a song, ascending, by which candidates are found, and how many hashes it has: of six
    intervals, and of all. `every` is empty where all are of six intervals."""

    long: Hashes
    longs: int
    every: Hashes
    all: int


@dataclass(frozen=True)
class Sketch:
    """A song's hashes below `below`, by voice."""

    voices: tuple[Voice, ...]
    below: int

    @classmethod
    def of(cls, signature: NoteSignature) -> "Sketch":
        """What a signature says, in a tenth of its memory."""
        voices = (
            Voice(np.array(voice.hashes, dtype=np.uint32), np.array(voice.short_hashes, dtype=np.uint32))
            for voice in signature.voices
        )
        return cls(tuple(voices), signature.below if signature.HasField("below") else _ALL)

    @cached_property
    def long(self) -> Hashes:
        """Those of six intervals, each once, ascending."""
        return _united(voice.long for voice in self.voices)

    @property
    def longs(self) -> float:
        """How many of six intervals the whole song has, about: hashes are spread evenly."""
        return self.long.size * _ALL / self.below

    @cached_property
    def every(self) -> Hashes:
        """All, each once, ascending."""
        return _united(hashes for voice in self.voices for hashes in (voice.long, voice.short))

    @cached_property
    def outline(self) -> Outline:
        """A hundredth of it."""
        every = self.every[:_SMALLEST] if self.every.size > self.long.size else self.every[:0]
        return Outline(self.long[:_SMALLEST].copy(), self.long.size, every.copy(), self.every.size)


class Sketches:
    """Songs by fingerprint: their outlines, and their sketches, which are made when one is asked for."""

    def __init__(self, outlines: Mapping[str, Outline], load: Callable[[str], Sketch | None]) -> None:
        self.outlines = outlines
        self._load, self._loaded = load, dict[str, Sketch | None]()

    @classmethod
    def of(cls, sketches: Mapping[str, Sketch]) -> "Sketches":
        """Sketches that are there."""
        return cls({name: sketch.outline for name, sketch in sketches.items()}, sketches.get)

    def get(self, fingerprint: str) -> Sketch | None:
        """The sketch of a song; None where its file is not there any more."""
        if fingerprint not in self._loaded:
            self._loaded[fingerprint] = self._load(fingerprint)
        return self._loaded[fingerprint]


@dataclass(frozen=True)
class Pair:
    """Two near-duplicates by their places in a sequence, the first before the second, and how similar they are."""

    first: int
    second: int
    similarity: float


def near_duplicates(songs: Sequence[Outline], sketch_of: Callable[[int], Sketch | None]) -> list[Pair]:
    """The pairs of near-duplicates among songs. Of a large group not every pair is listed, but enough to connect it.

    `sketch_of` gives the sketch of a song by its place, where it is among candidates; None: it is passed over.
    """
    pairs = []
    for first, second in candidates(songs):
        one, other = sketch_of(first), sketch_of(second)
        if one and other and (found := similarity(one, other)) >= SAME:
            pairs.append(Pair(first, second, found))
    return pairs


def similarity(one: Sketch, other: Sketch) -> float:
    """The share of a song's hashes, 0 to 1, that another one which holds all its voices has; 0 where neither does."""
    with_short = one.every.size > one.long.size and other.every.size > other.long.size
    below = min(one.below, other.below)

    def cut(hashes: Hashes) -> Hashes:
        return hashes if below == _ALL else hashes[: np.searchsorted(hashes, below)]

    whole_one, whole_other = (cut(song.every if with_short else song.long) for song in (one, other))
    small, large = sorted((whole_one.size, whole_other.size))
    if small < TOO_FEW:
        return 0.0
    shared = int(_shared(whole_one, whole_other).sum())
    best = 0.0
    for song, whole, holder in ((one, whole_one, whole_other), (other, whole_other, whole_one)):
        share = shared / (whole.size if small >= _FEW else large)
        if share > best and _holds(song, holder, cut, with_short=with_short):
            best = share
    return best


def overlap(one: Sketch, other: Sketch) -> float:
    """The share of hashes of six intervals, 0 to 1, that the smaller of two songs has in common with the other,
    whatever the voices; 1 where it has fewer than TOO_FEW: they cannot be told apart."""
    below = min(one.below, other.below)
    parts = [song.long if below == _ALL else song.long[: np.searchsorted(song.long, below)] for song in (one, other)]
    small, large = sorted(parts, key=len)
    return float(_shared(small, large).mean()) if small.size >= TOO_FEW else 1.0


def _holds(song: Sketch, holder: Hashes, cut: Callable[[Hashes], Hashes], *, with_short: bool) -> bool:
    """Whether each voice of a song is found among the hashes of another one."""
    rest = []
    for voice in song.voices:
        hashes = cut(_united((voice.long, voice.short)) if with_short else voice.long)
        if hashes.size < _OF_A_VOICE:
            rest.append(hashes)
        elif _shared(hashes, holder).mean() < VOICE_SAME:
            return False
    together = _united(rest)
    return together.size < _OF_A_VOICE or bool(_shared(together, holder).mean() >= VOICE_SAME)


def candidates(songs: Sequence[Outline]) -> list[tuple[int, int]]:
    """Pairs that share many of their smallest hashes, ordered: all that can be near-duplicates, and few others."""
    little = [number for number, song in enumerate(songs) if song.every.size]
    found = set(_sharing([song.long for song in songs], [song.longs for song in songs]))
    every = _sharing([songs[number].every for number in little], [songs[number].all for number in little])
    found |= {(little[first], little[second]) for first, second in every}
    return sorted(found)


def _sharing(smallest: Sequence[Hashes], wholes: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of sets that share many of their smallest hashes; `wholes` are the sizes of the sets."""
    sizes = np.array([hashes.size for hashes in smallest], dtype=np.int64)
    owners = np.repeat(np.arange(len(smallest), dtype=np.uint64), sizes)
    if not owners.size:
        return []
    keys = np.concatenate(smallest).astype(np.uint64) << np.uint64(32) | owners
    keys.sort()  # by hash, then by song
    hashes, owners = keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)
    found = [keys[:0]]
    for distance in range(1, min(_NEIGHBOURS, keys.size - 1) + 1):
        equal = hashes[distance:] == hashes[:-distance]
        found.append(owners[:-distance][equal] << np.uint64(32) | owners[distance:][equal])
    pairs, shared = np.unique(np.concatenate(found), return_counts=True)
    first, second = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
    # hashes are spread evenly: of a set that has more than its smallest, so many are below another one's bound
    bounds = np.array([part[-1] if part.size < whole else _ALL for part, whole in zip(smallest, wholes, strict=True)])
    lower = np.minimum(bounds[first], bounds[second])
    expected = np.minimum(*(sizes[number] * lower / bounds[number] for number in (first, second)))
    chosen = shared >= np.maximum(_SHARED, _SHARED_OF_SAME * SAME * expected)
    return list(zip(first[chosen].tolist(), second[chosen].tolist(), strict=True))


def _shared(hashes: Hashes, others: Hashes) -> NDArray[np.bool_]:
    """Of each hash whether the others, which are ascending, have it."""
    if not others.size:
        return np.zeros(hashes.size, dtype=np.bool_)
    found: NDArray[np.bool_] = others[np.minimum(np.searchsorted(others, hashes), others.size - 1)] == hashes
    return found


def _united(parts: Iterable[Hashes]) -> Hashes:
    return np.unique(np.concatenate([np.zeros(0, dtype=np.uint32), *parts]))
