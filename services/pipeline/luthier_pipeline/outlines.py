"""Outlines of a collection's songs, kept from one ingest to the next (`SongOutlines`): a song that is new is held
against all others without inspecting those again."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from luthier.pipeline.v1.pipeline_pb2 import SongOutlines
from luthier_kit.store import Store
from luthier_pipeline.near_duplicates import Outline
from luthier_pipeline.notes import find_note, folder_of, keep_note
from luthier_pipeline.same_song import found_by

DIGITS: Final = "0123456789abcdef"
"""With which fingerprints begin: a new song is one of these sixteen documents written anew."""
LITTLE_ENDIAN: Final = np.dtype("<u4")


def outlines_key(collection: str, digit: str) -> str:
    """Where the outlines lie of songs whose fingerprints begin with a digit."""
    return f"{folder_of(collection)}outlines-{digit}.json"


def read_outlines(store: Store, collection: str, configuration: str) -> dict[str, Outline]:
    """By fingerprint those that a server found that is configured so."""
    found: dict[str, Outline] = {}
    for digit in DIGITS:
        kept = find_note(store, SongOutlines, outlines_key(collection, digit))
        if kept and kept.configuration == found_by(configuration):
            found |= dict(_outlines_in(kept))
    return found


def keep_outlines(
    store: Store,
    collection: str,
    configuration: str,
    outlines: Mapping[str, Outline],
    before: Mapping[str, Outline] | None = None,
) -> None:
    """Keeps these in place of those `before`, as they were read; documents in which nothing changes are left alone."""
    before = before or {}
    were = Counter(fingerprint[:1] for fingerprint in before)
    of_digit: dict[str, list[str]] = defaultdict(list)
    for fingerprint in sorted(outlines):
        of_digit[fingerprint[:1]].append(fingerprint)
    for digit, fingerprints in of_digit.items():
        if were[digit] == len(fingerprints) and all(outlines[one] is before.get(one) for one in fingerprints):
            continue
        key, songs = outlines_key(collection, digit), [outlines[fingerprint] for fingerprint in fingerprints]
        kept = SongOutlines(
            configuration=found_by(configuration),
            fingerprints=fingerprints,
            longs=[song.longs for song in songs],
            longs_kept=[song.long.size for song in songs],
            all=[song.all for song in songs],
            all_kept=[song.every.size for song in songs],
            hashes=b"".join(part.astype(LITTLE_ENDIAN).tobytes() for song in songs for part in (song.long, song.every)),
        )
        if find_note(store, SongOutlines, key) != kept:
            keep_note(store, key, kept)


def _outlines_in(kept: SongOutlines) -> Iterator[tuple[str, Outline]]:
    """Nothing where the numbers do not fit each other."""
    hashes = np.frombuffer(kept.hashes[: len(kept.hashes) // 4 * 4], dtype=LITTLE_ENDIAN).astype(np.uint32)
    columns = (kept.longs, kept.longs_kept, kept.all, kept.all_kept)
    whole = hashes.size == sum(kept.longs_kept) + sum(kept.all_kept)
    if not whole or any(len(column) != len(kept.fingerprints) for column in columns):
        return
    at = 0
    for fingerprint, longs, longs_kept, every, every_kept in zip(kept.fingerprints, *columns, strict=True):
        middle, end = at + longs_kept, at + longs_kept + every_kept
        yield fingerprint, Outline(hashes[at:middle], longs, hashes[middle:end], every)
        at = end
