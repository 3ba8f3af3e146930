"""Shards: files of many clips, bounded in bytes. They are planned before the first is written, for their names count
them as the Hugging Face hub has it: `data/train-00000-of-00003.parquet`."""

from collections.abc import Iterable, Iterator
from typing import Final

from luthier.curation.v1.dataset_pb2 import DatasetRow

SHARD_BYTES: Final = 500_000_000
"""of audio in a shard, as the hub's own tools write them; a single clip may be larger."""
UNKNOWN_SIZE_BYTES: Final = 64 << 20
"""Stands for the size of a clip whose reference does not state it, and bounds it."""


def bounded(rows: Iterable[DatasetRow], max_bytes: int) -> Iterator[list[DatasetRow]]:
    """The rows in order, in groups of at most `max_bytes` of audio, or of a single clip that has more."""
    group, size_bytes = list[DatasetRow](), 0
    for row in rows:
        clip_bytes = row.audio.size_bytes or UNKNOWN_SIZE_BYTES
        if group and size_bytes + clip_bytes > max_bytes:
            yield group
            group, size_bytes = [], 0
        group.append(row)
        size_bytes += clip_bytes
    if group:
        yield group


def shards(split: str, rows: Iterable[DatasetRow], extension: str, max_bytes: int) -> dict[str, list[DatasetRow]]:
    """The rows of a split by the name of their shard, below the data set's folder."""
    groups = list(bounded(rows, max_bytes))
    return {f"data/{split}-{number:05}-of-{len(groups):05}.{extension}": group for number, group in enumerate(groups)}
