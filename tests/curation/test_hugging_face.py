"""A data set that Hugging Face `datasets` loads: two releases, each in an environment of its own.

The splits differ in what is known (one has no key, tag, licence or instrument): the loader infers the types of each
split's columns and refuses splits that differ.
"""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef, ClipFacts, InstrumentFact, KeyFact, Tag, TempoFact
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_curation.datasets import audio_folder_metadata
from tests.support.services import missing, require_tool

LOAD = """
import hashlib, json, sys
import datasets
if datasets.__version__ >= "5":  # else it wants torchcodec and torch, 5 GB, even to keep a path
    datasets.Audio.encode_example = lambda self, path: {"bytes": None, "path": path}
found = datasets.load_dataset("audiofolder", data_dir=sys.argv[1], cache_dir=sys.argv[2])
found = found.cast_column("audio", datasets.Audio(decode=False))
def shown(row):
    audio = row.pop("audio")
    return row | {"sha256": hashlib.sha256(audio["bytes"] or open(audio["path"], "rb").read()).hexdigest()}
rows = {split: [shown(row) for row in rows] for split, rows in found.items()}
print(json.dumps({"version": datasets.__version__, "rows": rows}))
"""


def known(name: str) -> DatasetRow:
    return DatasetRow(
        clip_id=name, audio=ArtifactRef(key="clips/x.flac"), prompts=["Jazz in C", "A trio"], licences=["MIT"],
        tags=[Tag(text="jazz", kind="genre", weight=1, source="file", licence="CC0-1.0")],
        facts=ClipFacts(
            duration_s=1, tempo=TempoFact(tempo_bpm=120), key=KeyFact(tonic="C"), loudness_lufs=-14,
            instruments=[InstrumentFact(instrument="Fiddle", family="Strings", share=0.5)],
        ),
    )  # fmt: skip


def notated(name: str) -> DatasetRow:
    row = known(name)
    row.facts.tempo.CopyFrom(TempoFact(tempo_bpm=180, notated=True))
    return row


def unknown(name: str) -> DatasetRow:
    return DatasetRow(clip_id=name, audio=ArtifactRef(key="clips/x.flac"), prompts=["A sound"])


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.6.0", "5.2.0"])
def test_datasets_loads_the_audio_folder(tones: list[Path], tmp_path: Path, version: str) -> None:
    folder = tmp_path / "dataset"
    splits = {
        "train": [known("clip-1"), unknown("clip-2")],
        "validation": [unknown("clip-3")],
        "test": [notated("clip-4")],
    }
    for split, rows in splits.items():
        (folder / split).mkdir(parents=True)
        (folder / split / "metadata.jsonl").write_bytes(audio_folder_metadata(rows))
        for row, tone in zip(rows, tones, strict=False):
            (folder / split / f"{row.clip_id}.flac").write_bytes(tone.read_bytes())
    (folder / "manifest.json").write_text("{}")

    needed = ["--with", f"datasets=={version}", "--with", "soundfile"]
    python = [str(require_tool("uv")), "run", "--no-project", "--quiet", "--python", "3.11", *needed, "python", "-c"]
    if subprocess.run([*python, "import datasets"], capture_output=True, check=False).returncode:
        missing(f"datasets {version}")
    done = subprocess.run(
        [*python, LOAD, str(folder), str(tmp_path / "cache")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded["version"] == version
    written = {
        split: [json.loads(line) for line in audio_folder_metadata(rows).splitlines()] for split, rows in splits.items()
    }
    for lines in written.values():
        for line, tone in zip(lines, tones, strict=False):
            del line["file_name"]
            line["sha256"] = hashlib.sha256(tone.read_bytes()).hexdigest()
    assert loaded["rows"] == written
