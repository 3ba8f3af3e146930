"""Search by sound among many clips: to a text, to a clip, with filters; without the time that the embedder takes.

    services/curation/.venv/bin/python -m tests.bench.similar_clips --clips 100000 --database postgresql

fills a database with clips of random vectors of 512 numbers, as `tests.bench.curation` fills it, and asks each question
REPEATS times in random order, SIZE clips each, as the page does. It prints the 50th and 95th percentile in milliseconds
by the clock and of CPU (this process and the database), seconds until the first answer, which reads the vectors, and
the process's resident memory before and after. Each answer is compared with that of comparing all vectors in float64.
"""

import argparse
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Table, insert, select

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.curation import Curation
from luthier_curation.database import Repository, migrate, open_engine
from luthier_curation.embedding import Embedder, Meant, Vector
from luthier_curation.tables import ClipRow, ClipVectorRow, VectorSetRow
from luthier_kit.store import FolderStore, Store
from tests.bench.curation import COLLECTION, backend_cpu_ms, backend_of, fill, percentile, resident_mib
from tests.curation.postgres import own_database, running_postgres

REPEATS = 40
SIZE = 20
DIMENSIONS = 512
AT_ONCE = 5000
WEIGHTS = "a" * 64
FILTERS = {
    "collection": pb.ClipFilter(collection=COLLECTION),
    "all collections": pb.ClipFilter(),
    "open ones": pb.ClipFilter(collection=COLLECTION, verdict=pb.VERDICT_OPEN),
    "genre, a tenth": pb.ClipFilter(collection=COLLECTION, tag="slow blues"),
    "instrument": pb.ClipFilter(collection=COLLECTION, instrument="Piano"),
    "word of 50 clips": pb.ClipFilter(collection=COLLECTION, text="rare3"),
}


class Drawn(Embedder):
    """Texts mean random vectors, another one for each."""

    def text(self, text: str) -> Meant:
        return Meant(direction(np.random.default_rng(int(text)).standard_normal(DIMENSIONS)), WEIGHTS)


def direction(values: NDArray[np.float64]) -> Vector:
    """Of length 1."""
    return (values / np.linalg.norm(values)).astype(np.float32)


def embed(curation: Curation) -> dict[str, Vector]:
    """Gives every clip a random vector; the vectors by clip."""
    draw = np.random.default_rng(1)
    with curation.repository.engine.begin() as connection:
        ids = list(connection.scalars(select(ClipRow.clip_id)))
        found = {name: direction(draw.standard_normal(DIMENSIONS)) for name in ids}
        for first in range(0, len(ids), AT_ONCE):
            rows = [
                {
                    "clip_id": name,
                    "weights_sha256": WEIGHTS,
                    "change": first + place + 1,
                    "vector": found[name].tobytes(),
                }
                for place, name in enumerate(ids[first : first + AT_ONCE])
            ]
            connection.execute(insert(cast(Table, ClipVectorRow.__table__)), rows)
        row = {"weights_sha256": WEIGHTS, "embedder": "clap", "changes": len(ids)}
        connection.execute(insert(cast(Table, VectorSetRow.__table__)), row)
    return found


def exact(vectors: NDArray[np.float64], names: list[str], query: Vector, without: str) -> list[str]:
    """The SIZE nearest."""
    scores = vectors @ query.astype(np.float64)
    best = np.argsort(-scores)[: SIZE + 1]
    return [names[place] for place in best if names[place] != without][:SIZE]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000, help="a multiple of 5000")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as databases:
        (Path(folder) / "luthier").mkdir()
        url = f"sqlite:///{folder}/curation.sqlite3"
        if arguments.database == "postgresql":
            url = databases.enter_context(own_database(databases.enter_context(running_postgres())))
        engine = open_engine(url)
        databases.callback(engine.dispose)
        migrate(engine)
        curation = Curation(Repository(engine), Store(FolderStore(Path(folder), "luthier")), embedder=Drawn())
        print(f"{arguments.clips} clips: brought in {fill(curation, arguments.clips):.0f} s", flush=True)
        vectors = embed(curation)
        measure(curation, vectors)


def measure(curation: Curation, vectors: dict[str, Vector]) -> None:
    """Asks, compares and prints."""
    names, before = list(vectors), resident_mib()
    began = time.perf_counter()
    curation.search(pb.SearchClipsRequest(filter=FILTERS["collection"], text="0"), SIZE)
    first_s, after = time.perf_counter() - began, resident_mib()
    print(f"the first answer after {first_s:.1f} s; resident memory {before:.0f} -> {after:.0f} MiB", flush=True)
    backend = backend_of(curation)
    draw = random.Random(1)
    tries = [
        (name, kind, draw.randrange(1, 1 << 30))
        for name in FILTERS
        for kind in ("text", "clip")
        for _ in range(REPEATS)
    ]
    draw.shuffle(tries)
    took: dict[tuple[str, str], list[tuple[float, float]]] = {}
    answers = list[tuple[pb.SearchClipsRequest, list[str]]]()
    for name, kind, number in tries:
        request = pb.SearchClipsRequest(filter=FILTERS[name])
        if kind == "text":
            request.text = str(number)
        else:
            request.clip_id = names[number % len(names)]
        clock, ours, theirs = time.perf_counter(), time.process_time(), backend_cpu_ms(backend)
        found = curation.search(request, SIZE).clips
        cpu_ms = 1000 * (time.process_time() - ours) + backend_cpu_ms(backend) - theirs
        took.setdefault((name, kind), []).append((1000 * (time.perf_counter() - clock), cpu_ms))
        if name in ("collection", "all collections"):
            answers.append((request, [one.clip.clip_id for one in found]))
    everything = np.stack([vectors[name] for name in names]).astype(np.float64)
    for request, found_ids in answers:
        query = vectors[request.clip_id] if request.clip_id else curation.embedder.text(request.text).vector
        assert found_ids == exact(everything, names, query, request.clip_id)
    print(f"{len(answers)} answers are those of comparing all vectors")
    print(f"{'milliseconds':34} {'p50':>7} {'p95':>7} {'CPU p95':>8}")
    for (name, kind), each in sorted(took.items()):
        tell(f"{kind}, {name}", each)
    tell("all", [one for each in took.values() for one in each])


def tell(what: str, took: list[tuple[float, float]]) -> None:
    """A line of the table."""
    clock, cpu = [one[0] for one in took], [one[1] for one in took]
    figures = (percentile(clock, 0.5), percentile(clock, 0.95), percentile(cpu, 0.95))
    print(f"{what:34} {figures[0]:7.1f} {figures[1]:7.1f} {figures[2]:8.1f}")


if __name__ == "__main__":
    main()
