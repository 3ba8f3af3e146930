#!/usr/bin/env bash
# An AudioFolder's metadata.jsonl has no types: Hugging Face datasets infers them split by split. Most expect that the features in the
# card's YAML (dataset_info), or the argument `features`, state them. Neither does: a key that nobody knows in the test split (null, an
# empty list) is refused as "different features", before anything is read. And Arrow takes a text that looks like a time for one: where
# all titles of a split are like "1999-12-31" they load as datetimes, in silence if it is so in every split.
# metadata.parquet states the types, and both releases take it.
# Hurt: music data sets, where tempo, key and tags are often unknown, and songs are called by a date.
# Printed:
#   datasets 3.6.0: null in one split, features in card and argument: refused
#   datasets 3.6.0: titles that are dates, metadata.jsonl: datetime.datetime(1999, 12, 31, 0, 0)
#   datasets 3.6.0: both, metadata.parquet: '1999-12-31', tags [] and tempo None
#   datasets 5.2.0: null in one split, features in card and argument: refused
#   datasets 5.2.0: titles that are dates, metadata.jsonl: datetime.datetime(1999, 12, 31, 0, 0)
#   datasets 5.2.0: both, metadata.parquet: '1999-12-31', tags [] and tempo None
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
for version in 3.6.0 5.2.0; do
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/$version"; get() { uv pip install -q -p "$t/$version/bin/python" "$@"; }
else python3 -m venv "$t/$version"; get() { "$t/$version/bin/pip" install -q "$@"; }; fi
get datasets=="$version" pyarrow==26.0.1
cd "$t" && "$version/bin/python" -W ignore - <<'PY'
import json, os, shutil, wave
os.environ["HF_HUB_OFFLINE"] = "1"
import datasets, pyarrow as pa, pyarrow.parquet as pq
datasets.disable_progress_bars()
datasets.Audio.encode_example = lambda self, path: {"bytes": None, "path": path}  # decodes nothing
CARD = """---
dataset_info:
  features:
  - {name: audio, dtype: audio}
  - {name: title, dtype: string}
  - {name: tags, sequence: string}
  - {name: tempo, dtype: float64}
---
"""
TYPES = pa.schema([("file_name", pa.string()), ("title", pa.string()), ("tags", pa.list_(pa.string())), ("tempo", pa.float64())])
known, unknown = {"title": "1999-12-31", "tags": ["calm"], "tempo": 120.0}, {"title": "1999-12-30", "tags": [], "tempo": None}
def folder(splits, parquet=False):
    shutil.rmtree("songs", ignore_errors=True), shutil.rmtree("cache", ignore_errors=True)
    for split, row in splits.items():
        os.makedirs(f"songs/{split}")
        with wave.open(f"songs/{split}/a.wav", "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000), file.writeframes(bytes(1600))
        row = {"file_name": "a.wav", **row}
        if parquet: pq.write_table(pa.Table.from_pylist([row], TYPES), f"songs/{split}/metadata.parquet")
        else: open(f"songs/{split}/metadata.jsonl", "w").write(json.dumps(row) + "\n")
    open("songs/README.md", "w").write(CARD)
def load(**more):
    found = datasets.load_dataset("songs", cache_dir="cache", **more)
    return {split: rows.remove_columns("audio")[0] for split, rows in found.items()}
name = f"datasets {datasets.__version__}"
features = datasets.Features({"audio": datasets.Audio(), "title": datasets.Value("string"), "tempo": datasets.Value("float64"),
                              "tags": datasets.Sequence(datasets.Value("string"))})
folder({"train": known, "test": unknown})
refused = 0
for more in ({}, {"features": features}):
    try: load(**more)
    except ValueError as error:
        assert "different features" in str(error), error
        refused += 1
assert refused == 2
print(f"{name}: null in one split, features in card and argument: refused")
folder({"train": known, "test": known})
title = load()["train"]["title"]
assert not isinstance(title, str)
print(f"{name}: titles that are dates, metadata.jsonl: {title!r}")
folder({"train": known, "test": unknown}, parquet=True)
rows = load()
assert rows == {"train": known, "test": unknown}, rows
print(f"{name}: both, metadata.parquet: {rows['train']['title']!r}, tags {rows['test']['tags']} and tempo {rows['test']['tempo']}")
PY
done
