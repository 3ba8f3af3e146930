"""Requests to the store of ingest, shards, a run again and the monitor, for corpora of some sizes, and where they grow.

    services/pipeline/.venv/bin/python -m tests.bench.scale [--songs 500 1000 2000] [--songs-per-shard 50]
        [--predict 100000] [--solos]

The pipeline is the real command, a shard after the other, on a real MinIO through the real client, whose connections
are counted: PUT, GET, HEAD, DELETE, and GETs that list; with --solos also the questions for passages. The services
answer from a script, at once: each song has a mix, a stem and two clips, whose blobs and action records are really
stored, by a client that is not counted. So what is printed is what the pipeline itself asks; each service asks for its
own song's objects by their names.

Of each size: requests and bytes read for each song. A straight line through the first and last size says how many there
would be of `--predict` songs in as many shards as that needs; its error is how far it misses the size in between. A
number for each song that rises with the corpus is growth that is worse than linear.
"""

import argparse
import hashlib
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import urllib3

from luthier_kit.store import S3Store, Store
from luthier_pipeline.run_status import RunStatusReader
from tests.pipeline.fakes import FakeClients, luthier
from tests.pipeline.test_song_records import World
from tests.support.stores import minio_server

KINDS: Final = ("PUT", "GET", "HEAD", "LIST", "DELETE", "MB read", "FindSolos")
PHASES: Final = ("ingest", "first run", "run again", "a look of the monitor")


class CountedPool(urllib3.PoolManager):
    """Connections of the pipeline's client, counted by what they ask."""

    asked: ClassVar[Counter[str]] = Counter()

    def urlopen(self, method: str, url: str, redirect: bool = True, **given: Any) -> Any:  # type: ignore[override]
        kind = "LIST" if method == "GET" and "list-type=" in url else method
        CountedPool.asked[kind] += 1
        answer = super().urlopen(method, url, redirect, **given)
        if method == "GET":
            CountedPool.asked["bytes"] += int(answer.headers.get("content-length") or 0)
        return answer


@dataclass
class Services(World):
    """They write by a client of their own."""

    counted: Store = field(kw_only=True)

    def clients_of(self) -> FakeClients:
        clients = super().clients_of()
        clients.__dict__["store"] = self.counted
        return clients


@dataclass(frozen=True)
class Size:
    """A corpus, and requests by phase and kind; CPU seconds of the pipeline and the scripted services together."""

    songs: int
    shards: int
    asked: dict[str, Counter[str]]
    cpu_s: dict[str, float]


def measure(services: Services, songs: int, shards: int, options: list[str]) -> Size:
    """One corpus all the way, twice."""
    for number in range(songs):
        path = services.folder / f"Artist {number // 20}" / f"Title of song {number}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content := f"notes of song {number}".encode())
        services.notes[hashlib.sha256(content).hexdigest()] = number  # no two songs are alike
    asked, cpu_s = dict[str, Counter[str]](), dict[str, float]()
    reader = RunStatusReader(services.counted)

    def shards_once() -> None:
        for index in range(shards):
            line = ["run", "corpora/book", "--shard", f"{index}/{shards}", "--collection", "book", "--json", *options]
            done = luthier(line, services.clients_of())
            assert done.code == 0, done.err
            assert not done.document["failures"]
            CountedPool.asked["FindSolos"] += services.asked("FindSolos")

    def ingested() -> None:
        line = ["ingest", str(services.folder), "--collection", "book", "--shards", str(shards), "--json"]
        done = luthier(line, services.clients_of())
        assert done.document["songs"] == songs, done.document

    work = {
        "ingest": ingested,
        "first run": shards_once,
        "run again": shards_once,
        "a look of the monitor": reader.runs,
    }
    for phase, do in work.items():
        CountedPool.asked.clear()
        before = resource.getrusage(resource.RUSAGE_SELF)
        do()
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s[phase] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        asked[phase] = CountedPool.asked.copy()
        asked[phase]["MB read"] = round(asked[phase].pop("bytes", 0) / 1e6)
        print(f"  {songs} songs, {shards} shards, {phase}: {dict(asked[phase])}, {cpu_s[phase]:.1f} CPU s", flush=True)
    return Size(songs, shards, asked, cpu_s)


def predicted(sizes: Sequence[Size], numbers: Sequence[float], songs: int) -> tuple[float, float]:
    """What a straight line through the first and last size says of so many songs, and by what share it misses the
    others at most."""
    first, last = sizes[0], sizes[-1]
    slope = (numbers[-1] - numbers[0]) / (last.songs - first.songs)
    line = [numbers[0] + slope * (size.songs - first.songs) for size in sizes]
    missed = max((abs(a - b) / b for a, b in zip(line, numbers, strict=True) if b), default=0.0)
    return numbers[0] + slope * (songs - first.songs), missed


def table(sizes: Sequence[Size], songs: int) -> None:
    """Each kind of request by phase, for each song."""
    heads = [f"{size.songs:,} songs, {size.shards} shards" for size in sizes]
    print(
        "\n| | "
        + " | ".join(f"{head}: all (each song)" for head in heads)
        + f" | {songs:,} songs by the line (its error) |"
    )
    print("|---|" + "---|" * (len(sizes) + 1))
    for phase in PHASES:
        for kind in KINDS:
            numbers = [float(size.asked[phase][kind]) for size in sizes]
            if any(numbers):
                expected, missed = predicted(sizes, numbers, songs)
                cells = [f"{n:,.0f} ({n / size.songs:.3f})" for n, size in zip(numbers, sizes, strict=True)]
                print(f"| {phase}: {kind} | " + " | ".join(cells) + f" | {expected:,.0f} ({missed:.0%}) |")
        cells = [f"{size.cpu_s[phase]:.1f} ({1000 * size.cpu_s[phase] / size.songs:.1f} ms)" for size in sizes]
        print(f"| {phase}: CPU s | " + " | ".join(cells) + " | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--songs-per-shard", type=int, default=50)
    parser.add_argument("--predict", type=int, default=100_000)
    parser.add_argument("--solos", action="store_true", help="solo clips as well, which are chosen over all songs")
    arguments = parser.parse_args()
    options = ["--subsets", "polyphonic,monophonic", "--solo-minutes", "1000"] if arguments.solos else []
    sizes = list[Size]()
    for songs in arguments.songs:
        with tempfile.TemporaryDirectory() as folder, minio_server(Path(folder)) as endpoint:
            bucket, began = f"scale-{os.getpid()}", time.monotonic()
            theirs = Store(S3Store(endpoint, bucket))
            theirs.objects.ensure_bucket(create=True)
            (songs_folder := Path(folder) / "songs").mkdir()
            services = Services(theirs, songs_folder, counted=Store(S3Store(endpoint, bucket, CountedPool)))
            sizes.append(measure(services, songs, songs // arguments.songs_per_shard, options))
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
    table(sizes, arguments.predict)


if __name__ == "__main__":
    main()
