"""WebDataset: tar archives in which a clip is two files, `clip-….flac` and `clip-….json`.

Its readers split names at the *first* dot, so a clip's name is its id, which has none, and never a title.
"""

import io
import tarfile
import tempfile
from pathlib import Path

from luthier_kit.store import Store, canonical_json
from luthier_pipeline.export import metadata
from luthier_pipeline.export.columns import audio_file_name, values
from luthier_pipeline.export.dataset import FrozenDataset
from luthier_pipeline.export.folder import METADATA
from luthier_pipeline.export.shards import SHARD_BYTES, shards


def write(dataset: FrozenDataset, store: Store, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Writes `data/<split>-00000-of-….tar`, and `metadata.parquet`, which finds clips without opening an archive.

    The same clips are the same bytes: members have no owner and no time.
    """
    (folder / "data").mkdir()
    metadata.write([row for split in dataset.splits for row in dataset.rows(split)], folder / METADATA)
    for split in dataset.splits:
        for name, rows in shards(split, dataset.rows(split), "tar", shard_bytes).items():
            with (
                tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as archive,
                tempfile.TemporaryDirectory(dir=folder) as scratch,
            ):
                for row in rows:
                    audio = store.blobs.fetch(row.audio, Path(scratch), read_only=True)
                    member = tarfile.TarInfo(audio_file_name(row))
                    member.size = audio.stat().st_size
                    with audio.open("rb") as file:
                        archive.addfile(member, file)
                    audio.unlink()
                    line = canonical_json(values(row))
                    member = tarfile.TarInfo(f"{row.clip_id}.json")
                    member.size = len(line)
                    archive.addfile(member, io.BytesIO(line))
                    dataset.progress.advance(row.audio.size_bytes)
