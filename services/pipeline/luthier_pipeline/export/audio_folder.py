"""AudioFolder of Hugging Face `datasets`: audio files, and beside them the columns of each split.

The columns are `metadata.parquet`, which states their types. With `metadata.jsonl` the loader infers them from the
values, split by split, and neither the card nor an argument can tell it better.
"""

import os
import shutil
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.store import Store
from luthier_pipeline.export import metadata
from luthier_pipeline.export.columns import audio_file_name
from luthier_pipeline.export.dataset import FrozenDataset, sha256_of
from luthier_pipeline.export.folder import METADATA
from luthier_pipeline.files import save


def write(dataset: FrozenDataset, store: Store, folder: Path, present: Path) -> None:
    """Writes `<split>/metadata.parquet` and `<split>/clip-….flac`; audio that is `present` already is taken over."""
    for split in dataset.splits:
        (folder / split).mkdir()
        rows = dataset.rows(split)
        metadata.write(rows, folder / split / METADATA)
        for row in rows:
            name = f"{split}/{audio_file_name(row)}"
            if _is_that_file(present / name, row.audio):
                _take_over(present / name, folder / name)
            else:
                save(store, row.audio, folder / name)
            dataset.progress.advance(row.audio.size_bytes)


def _take_over(path: Path, target: Path) -> None:
    """The same file under another name: a link, or a copy where the file system has no hard links (exFAT)."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _is_that_file(path: Path, ref: ArtifactRef) -> bool:
    return path.is_file() and path.stat().st_size == ref.size_bytes and sha256_of(path) == ref.sha256
