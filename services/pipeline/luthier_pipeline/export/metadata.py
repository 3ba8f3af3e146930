"""metadata.parquet: the columns of clips whose audio is files of its own, by `file_name`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_pipeline.export.columns import SCHEMA, audio_file_name, values

FILE_NAME: Final = pa.field("file_name", pa.string())
ROWS_AT_A_TIME: Final = 1000  # a row group, some 5 MB


def write(rows: Sequence[DatasetRow], path: Path) -> None:
    """Writes the columns of these clips, a row group at a time."""
    with pq.ParquetWriter(path, SCHEMA.insert(0, FILE_NAME)) as metadata:
        for start in range(0, len(rows), ROWS_AT_A_TIME):
            lines = [{"file_name": audio_file_name(row), **values(row)} for row in rows[start : start + ROWS_AT_A_TIME]]
            metadata.write_table(pa.Table.from_pylist(lines, metadata.schema))
