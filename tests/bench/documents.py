"""Seconds and memory of writing and reading manifests of data sets as messages.

    services/kit/.venv/bin/python tests/bench/documents.py MANIFEST.json [ROWS ...]

MANIFEST.json is one that curation exported (`manifests/` of a store): its rows are repeated, each with a clip id of its
own, to 20,000 and 50,000 rows unless other numbers are given. Each measurement is a process of its own.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path

from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier_kit.store import from_json, to_json

MB = 1e6


def repeated(path: Path, rows: int) -> DatasetManifest:
    """A manifest of so many rows."""
    manifest = from_json(DatasetManifest, path.read_bytes())
    known = list(manifest.rows)
    del manifest.rows[:]
    for number in range(rows):
        row = manifest.rows.add()
        row.CopyFrom(known[number % len(known)])
        row.clip_id = f"clip-{number:024x}"
    return manifest


def peak_mb() -> float:
    """Most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def writing(path: Path, rows: int, target: Path) -> None:
    manifest, before = repeated(path, rows), peak_mb()
    began = time.perf_counter()
    data = to_json(manifest)
    took_s = time.perf_counter() - began
    print(f"{rows:8} rows, {len(data) / MB:6.0f} MB: written in {took_s:5.1f} s, {before:5.0f} to {peak_mb():5.0f} MB")
    target.write_bytes(data)


def reading(rows: int, source: Path) -> None:
    before, began = peak_mb(), time.perf_counter()
    manifest = from_json(DatasetManifest, source.read_bytes())
    took_s = time.perf_counter() - began
    assert len(manifest.rows) == rows
    print(f"{rows:8} rows:            read in    {took_s:5.1f} s, {before:5.0f} to {peak_mb():5.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("rows", type=int, nargs="*", default=[20_000, 50_000])
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    target = Path(f"{arguments.manifest}.bench")
    try:
        for rows in arguments.rows:
            steps = ((writing, (arguments.manifest, rows, target)), (reading, (rows, target)))
            for function, values in steps:
                process = spawn.Process(target=function, args=values)
                process.start()
                process.join()
    finally:
        target.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
