"""Exports as their readers read them, each in an environment of its own: Hugging Face `datasets` of two major versions,
`webdataset`, and `mlcroissant`."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from luthier.curation.v1.curation_pb2 import ExportDatasetResponse
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier_kit.store import Store
from luthier_pipeline.export.columns import values
from luthier_pipeline.export.command import write_folder
from luthier_pipeline.export.dataset import Format
from tests.pipeline.export.hostile import Exported, hostile, tone, unknown
from tests.support.services import missing, require_tool

DATASETS = """
import hashlib, json, sys
import datasets
if datasets.__version__ >= "5":  # else it wants torchcodec and torch, 5 GB, even to keep a path
    datasets.Audio.encode_example = lambda self, path: {"bytes": None, "path": path}
found = datasets.load_dataset(**json.loads(sys.argv[1]), cache_dir=sys.argv[2])
assert all(isinstance(rows.features["audio"], datasets.Audio) for rows in found.values())
found = found.cast_column("audio", datasets.Audio(decode=False))
def shown(row):
    audio = row.pop("audio")
    return row | {"sha256": hashlib.sha256(audio["bytes"] or open(audio["path"], "rb").read()).hexdigest()}
rows = {split: [shown(row) for row in rows] for split, rows in found.items()}
print(json.dumps({"version": datasets.__version__, "rows": rows}))
"""
WEBDATASET = """
import glob, hashlib, json, sys
import webdataset
rows = {}
for split in ("train", "validation", "test"):
    clips = webdataset.WebDataset(sorted(glob.glob(f"{sys.argv[1]}/data/{split}-*.tar")), shardshuffle=False)
    rows[split] = [json.loads(clip["json"]) | {"sha256": hashlib.sha256(clip["flac"]).hexdigest()} for clip in clips]
print(json.dumps({"rows": rows}))
"""
CROISSANT = """
import hashlib, json, os, sys
import mlcroissant
folder, name = os.path.split(sys.argv[1])
def text(value):
    if isinstance(value, list):
        return [text(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value
def shown(record):
    row = {name.partition("/")[2]: value for name, value in record.items()}
    if "audio" in row:
        row["sha256"] = hashlib.sha256(row.pop("audio")).hexdigest()
    return {name: text(value) for name, value in row.items()}
def read(path):
    dataset = mlcroissant.Dataset(jsonld=path)
    return dataset.metadata.ctx.issues, [shown(record) for record in dataset.records("clips")]
issues, rows = read(sys.argv[1])
os.chdir(folder)
assert read(name)[1] == rows  # it finds files otherwise where its path has no folder
print(json.dumps({"errors": list(issues.errors), "warnings": list(issues.warnings), "rows": rows}))
"""


def in_environment(needed: str, program: str, *arguments: str) -> Any:
    """What a program prints last, as JSON, in an environment that has packages (separated by blanks)."""
    packages = [word for package in needed.split() for word in ("--with", package)]
    python = [str(require_tool("uv")), "run", "--no-project", "--quiet", "--python", "3.11", *packages, "python"]
    if subprocess.run([*python, "-c", ""], capture_output=True, check=False).returncode:
        missing(needed)
    done = subprocess.run([*python, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def written(exported: Exported) -> dict[str, list[dict[str, object]]]:
    """The clips of each split as a reader must find them, with the digest of their audio."""
    found: dict[str, list[dict[str, object]]] = {}
    for row in exported.manifest.rows:
        sha256 = hashlib.sha256(exported.audio[row.clip_id]).hexdigest()
        found.setdefault(row.split, []).append({**values(row), "sha256": sha256})
    return found


@pytest.mark.slow
@pytest.mark.parametrize("form", ["audiofolder", "parquet"])
@pytest.mark.parametrize("version", ["3.6.0", "5.2.0"])
def test_datasets_loads_it_by_folder_and_by_format(store: Store, tmp_path: Path, version: str, form: Format) -> None:
    exported = hostile(store)
    write_folder(store, exported.answer, tmp_path / "out", form)
    for call in ({"path": str(tmp_path / "out")}, {"path": form, "data_dir": str(tmp_path / "out")}):
        cache = tmp_path / f"cache-{len(call)}"
        loaded = in_environment(f"datasets=={version} soundfile", DATASETS, json.dumps(call), str(cache))
        assert loaded["version"] == version
        assert loaded["rows"] == written(exported)


@pytest.mark.slow
def test_webdataset_reads_it(store: Store, tmp_path: Path) -> None:
    exported = hostile(store)
    write_folder(store, exported.answer, tmp_path / "out", "webdataset")
    loaded = in_environment("webdataset==1.0.2", WEBDATASET, str(tmp_path / "out"))
    assert loaded["rows"] == written(exported)


@pytest.mark.slow
def test_mlcroissant_takes_a_data_set_without_licences_and_without_a_time(store: Store, tmp_path: Path) -> None:
    audio = store.blobs.put_bytes("clips", tone(1), "flac", "audio/flac")
    manifest = DatasetManifest(format="luthier.dataset.v1", name="book", rows=[unknown("clip-1", "train", audio, "")])
    answer = ExportDatasetResponse(name="book", version=3, manifest=store.put("manifests", manifest))
    write_folder(store, answer, tmp_path / "out", "parquet")
    read = in_environment("mlcroissant[parquet]==1.1.1", CROISSANT, str(tmp_path / "out/croissant.json"))
    assert (read["errors"], len(read["rows"])) == ([], 1)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["audiofolder", "parquet", "webdataset"])
def test_mlcroissant_finds_no_fault_and_reads_the_records(store: Store, tmp_path: Path, form: Format) -> None:
    exported = hostile(store)
    write_folder(store, exported.answer, tmp_path / "out", form)
    needed = "mlcroissant[parquet]==1.1.1"
    read = in_environment(needed, CROISSANT, str(tmp_path / "out/croissant.json"))
    assert read["errors"] == []
    assert [warning.partition("croissant/")[2].partition('"')[0] for warning in read["warnings"]] == ["citeAs"]
    rows = [row for rows in written(exported).values() for row in rows]
    found = {row["clip_id"]: row for row in read["rows"]}
    for row in rows:
        clip = found[str(row["clip_id"])]
        if form != "parquet":
            assert clip.pop("file_name") == f"{row['clip_id']}.flac"
            del row["sha256"]
        assert clip == row
    assert len(found) == len(read["rows"]) == len(rows)
