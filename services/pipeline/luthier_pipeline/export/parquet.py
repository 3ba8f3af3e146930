"""Parquet with the audio in it, as Hugging Face `datasets` keeps audio: a column `audio` of (bytes, path).

The schema carries the features of `datasets` as metadata, so that `audio` is read as audio; pyarrow, DuckDB and polars
read the same files without it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.store import Store
from luthier_pipeline.export.columns import COLUMNS, SCHEMA, Kind, audio_file_name, values
from luthier_pipeline.export.dataset import FrozenDataset
from luthier_pipeline.export.shards import SHARD_BYTES, UNKNOWN_SIZE_BYTES, bounded, shards

AUDIO: Final = pa.field("audio", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]))
ROW_GROUP_BYTES: Final = 32_000_000
"""of audio in a row group: what writing holds in memory, up to five times over, and a reader fetches to show a row."""

_FEATURES: Final[dict[Kind, object]] = {
    "text": {"dtype": "string", "_type": "Value"},
    "texts": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
    "number": {"dtype": "float64", "_type": "Value"},
    "flag": {"dtype": "bool", "_type": "Value"},
}
"""As every release of `datasets` from 2 on reads them; those from 4 on write `List` for `Sequence`."""


def schema() -> pa.Schema:
    """`audio` and the columns, with the features of `datasets`."""
    features = {"audio": {"_type": "Audio"}} | {column.name: _FEATURES[column.kind] for column in COLUMNS}
    return SCHEMA.insert(0, AUDIO).with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(
    dataset: FrozenDataset,
    store: Store,
    folder: Path,
    shard_bytes: int = SHARD_BYTES,
    row_group_bytes: int = ROW_GROUP_BYTES,
) -> None:
    """Writes `data/<split>-00000-of-….parquet`. A row group of audio is in memory at a time."""
    (folder / "data").mkdir()
    texts = [name for name in _leaves() if not name.startswith("audio.")]
    for split in dataset.splits:
        for name, rows in shards(split, dataset.rows(split), "parquet", shard_bytes).items():
            with pq.ParquetWriter(
                folder / name,
                schema(),
                compression={"audio.bytes": "NONE", "audio.path": "ZSTD", **dict.fromkeys(texts, "ZSTD")},  # FLAC is
                use_dictionary=texts,
                write_statistics=texts,  # not of whole FLAC files
                write_page_index=True,
            ) as writer:
                for group in bounded(rows, row_group_bytes):
                    writer.write_table(_table(dataset, store, group), row_group_size=len(group))


def _table(dataset: FrozenDataset, store: Store, rows: Sequence[DatasetRow]) -> pa.Table:
    lines: list[dict[str, object]] = []
    for row in rows:
        data = store.blobs.read(row.audio, max_bytes=row.audio.size_bytes or UNKNOWN_SIZE_BYTES)
        lines.append({"audio": {"bytes": data, "path": audio_file_name(row)}, **values(row)})
        dataset.progress.advance(row.audio.size_bytes)
    return pa.Table.from_pylist(lines, schema())


def _leaves() -> list[str]:
    """Paths of the columns as Parquet stores them: those of a struct and the items of a list apart."""
    lists = {column.name for column in COLUMNS if column.kind == "texts"}
    return [
        "audio.bytes", "audio.path",
        *(f"{column.name}.list.element" if column.name in lists else column.name for column in COLUMNS),
    ]  # fmt: skip
