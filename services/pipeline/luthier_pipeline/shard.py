"""Shards of a corpus: which songs an index of a Kubernetes Indexed Job takes.

A song belongs to the shard that the SHA-256 of its fingerprint names, modulo the number of shards: every song to
exactly one, whatever the order of the manifest, the machine or the other songs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from luthier_pipeline.corpus import Entry

MAX_SHARDS = 10_000
INDEX_ENV = "JOB_COMPLETION_INDEX"  # set by Kubernetes in the Pods of an Indexed Job


@dataclass(frozen=True)
class Shard:
    """Number `index` (from 0) of `count`."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    def of(self, songs: list[Entry]) -> list[Entry]:
        """The songs of this shard, in their order."""
        return [song for song in songs if shard_of(song.fingerprint, self.count) == self.index]


def shard_of(fingerprint: str, count: int) -> int:
    """The shard of a song, 0 to count - 1."""
    return int.from_bytes(hashlib.sha256(fingerprint.encode()).digest()[:8]) % count


def parse(text: str, shards: int, environ: Mapping[str, str]) -> Shard:
    """The shard that `I/N` names, or the environment's index of `shards`; the whole where nothing is named.

    Raises ValueError, whose text completes the sentence `--shard …`.
    """
    if not text and not shards:
        return Shard()
    index, slash, count = text.partition("/") if text else (environ.get(INDEX_ENV, ""), "/", str(shards))
    if not text and not index:
        raise ValueError(f"is missing: --shards {shards} takes the index from {INDEX_ENV}, which is not set")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise ValueError(f"must be I/N, e.g. 0/4, got {text or index!r}")
    shard = Shard(int(index), int(count))
    if not (1 <= shard.count <= MAX_SHARDS and shard.index < shard.count):
        raise ValueError(f"must be I/N with 0 <= I < N <= {MAX_SHARDS}, got {shard.index}/{shard.count}")
    return shard
