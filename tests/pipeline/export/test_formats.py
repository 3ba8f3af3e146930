"""AudioFolder, Parquet and WebDataset, read by pyarrow and tarfile; other readers are in test_readers.py."""

import json
import random
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luthier.curation.v1.curation_pb2 import ExportDatasetResponse
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier_kit.store import Store
from luthier_pipeline.export import parquet, web_dataset
from luthier_pipeline.export.columns import SCHEMA, values
from luthier_pipeline.export.command import write_folder
from luthier_pipeline.export.dataset import Format, read
from luthier_pipeline.export.shards import bounded
from tests.pipeline.export.hostile import Exported, hostile
from tests.support.measure import cost_of

SPLITS = {"train": ["clip-1", "clip-2", "clip-3"], "validation": ["clip-4"], "test": ["clip-5"]}


@pytest.fixture
def exported(store: Store) -> Exported:
    return hostile(store)


def test_an_audio_folder_states_the_types_of_every_split(store: Store, exported: Exported, tmp_path: Path) -> None:
    write_folder(store, exported.answer, tmp_path / "out", "audiofolder")
    rows = {row.clip_id: values(row) for row in exported.manifest.rows}
    for split, clips in SPLITS.items():
        table = pq.read_table(tmp_path / "out" / split / "metadata.parquet")
        assert table.schema.remove(0).equals(SCHEMA)
        assert table.to_pylist() == [{"file_name": f"{clip}.flac", **rows[clip]} for clip in clips]
        for clip in clips:
            assert (tmp_path / "out" / split / f"{clip}.flac").read_bytes() == exported.audio[clip]


def test_parquet_has_the_audio_in_it(store: Store, exported: Exported, tmp_path: Path) -> None:
    write_folder(store, exported.answer, tmp_path / "out", "parquet")
    for split, clips in SPLITS.items():
        table = pq.read_table(tmp_path / "out/data" / f"{split}-00000-of-00001.parquet")
        audio = [{"bytes": exported.audio[clip], "path": f"{clip}.flac"} for clip in clips]
        assert table["audio"].to_pylist() == audio
        assert table.drop_columns("audio").schema.equals(SCHEMA, check_metadata=False)


def test_parquet_carries_the_features_of_datasets(store: Store, exported: Exported, tmp_path: Path) -> None:
    write_folder(store, exported.answer, tmp_path / "out", "parquet")
    schema = pq.read_schema(tmp_path / "out/data/validation-00000-of-00001.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["audio"] == {"_type": "Audio"}
    assert features["tempo_bpm"] == {"dtype": "float64", "_type": "Value"}


def test_parquet_is_bounded_in_shards_and_row_groups(store: Store, exported: Exported, tmp_path: Path) -> None:
    """Clips of 500 to 800 bytes: two fit into a row group of 1200 bytes, and none shares a shard of one byte."""
    write_bounded = read(store, exported.answer)
    (tmp_path / "groups").mkdir()
    parquet.write(write_bounded, store, tmp_path / "groups", row_group_bytes=1200)
    train = pq.ParquetFile(tmp_path / "groups/data/train-00000-of-00001.parquet")
    assert [train.metadata.row_group(at).num_rows for at in range(train.num_row_groups)] == [2, 1]
    (tmp_path / "shards").mkdir()
    parquet.write(write_bounded, store, tmp_path / "shards", shard_bytes=1)
    names = sorted(path.name for path in (tmp_path / "shards/data").iterdir() if path.name.startswith("train"))
    assert names == [f"train-0000{number}-of-00003.parquet" for number in range(3)]
    tables = [pq.read_table(tmp_path / "shards/data" / name) for name in names]
    assert pa.concat_tables(tables)["clip_id"].to_pylist() == SPLITS["train"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["audiofolder", "parquet", "webdataset"])
def test_memory_is_bounded_whatever_the_data_set_has(store: Store, tmp_path: Path, form: Format) -> None:
    """320 MB of audio, ten row groups: a row group is held five times over at most, the rest not at all."""
    rows = []
    for number in range(80):
        audio = store.blobs.put_bytes("clips", random.Random(number).randbytes(4_000_000), "flac")
        rows.append(DatasetRow(clip_id=f"clip-{number}", split="train", audio=audio, prompts=["A sound"]))
    manifest = store.put("manifests", DatasetManifest(format="luthier.dataset.v1", rows=rows))
    answer = ExportDatasetResponse(name="book", version=1, manifest=manifest)
    write_folder(store, hostile(store).answer, tmp_path / "out", form)  # imports, and what they keep
    cost = cost_of(lambda: write_folder(store, answer, tmp_path / "out", form))
    assert cost.peak_bytes < 5 * parquet.ROW_GROUP_BYTES


def test_clips_of_unknown_size_do_not_share_a_row_group() -> None:
    rows = [DatasetRow(clip_id=f"clip-{number}") for number in range(3)]
    assert [len(group) for group in bounded(rows, parquet.ROW_GROUP_BYTES)] == [1, 1, 1]


def test_parquet_compresses_text_and_leaves_flac_as_it_is(store: Store, exported: Exported, tmp_path: Path) -> None:
    write_folder(store, exported.answer, tmp_path / "out", "parquet")
    group = pq.ParquetFile(tmp_path / "out/data/train-00000-of-00001.parquet").metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert columns["audio.bytes"].compression == "UNCOMPRESSED"
    assert not columns["audio.bytes"].is_stats_set  # else the longest clip stands in the footer
    assert {column.compression for name, column in columns.items() if name != "audio.bytes"} == {"ZSTD"}
    assert columns["tempo_bpm"].is_stats_set


def test_a_web_dataset_has_two_files_for_a_clip_side_by_side(store: Store, exported: Exported, tmp_path: Path) -> None:
    write_folder(store, exported.answer, tmp_path / "out", "webdataset")
    rows = {row.clip_id: values(row) for row in exported.manifest.rows}
    for split, clips in SPLITS.items():
        with tarfile.open(tmp_path / "out/data" / f"{split}-00000-of-00001.tar") as archive:
            assert archive.getnames() == [f"{clip}.{ext}" for clip in clips for ext in ("flac", "json")]
            for clip in clips:
                audio, line = (archive.extractfile(f"{clip}.{ext}") for ext in ("flac", "json"))
                assert audio is not None
                assert line is not None
                assert audio.read() == exported.audio[clip]
                assert json.load(line) == rows[clip]


def test_a_web_dataset_has_the_columns_of_all_clips_beside_it(store: Store, exported: Exported, tmp_path: Path) -> None:
    write_folder(store, exported.answer, tmp_path / "out", "webdataset")
    rows = pq.read_table(tmp_path / "out/metadata.parquet").to_pylist()
    assert rows == [{"file_name": f"{row.clip_id}.flac", **values(row)} for row in exported.manifest.rows]


def test_a_name_in_a_web_dataset_has_one_dot(store: Store, exported: Exported, tmp_path: Path) -> None:
    """Its readers take all behind the first dot for the type; the artist is called "Mr. Big.take.2"."""
    write_folder(store, exported.answer, tmp_path / "out", "webdataset")
    for path in (tmp_path / "out/data").iterdir():
        with tarfile.open(path) as archive:
            assert all(Counter(name)["."] == 1 for name in archive.getnames())


def test_a_web_dataset_is_bounded_in_shards_and_the_same_bytes_again(
    store: Store, exported: Exported, tmp_path: Path
) -> None:
    found = []
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        web_dataset.write(read(store, exported.answer), store, tmp_path / name, shard_bytes=1200)
        found.append({path.name: path.read_bytes() for path in (tmp_path / name / "data").iterdir()})
    assert found[0] == found[1]
    assert {name for name in found[0] if "train" in name} == {f"train-0000{n}-of-00002.tar" for n in range(2)}


def test_progress_counts_every_clip(
    store: Store, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(store, exported.answer, tmp_path / "out", "parquet")
    assert "written 5/5" in capsys.readouterr().err
