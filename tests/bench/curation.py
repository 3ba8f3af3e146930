"""Curation with many clips: lists, filters, words, a verdict about half of them, memory.

    services/curation/.venv/bin/python -m tests.bench.curation --clips 5000 100000
    services/curation/.venv/bin/python -m tests.bench.curation --clips 5000 100000 --database sqlite

fills a database for each number of clips (a multiple of 5000), on a PostgreSQL server of its own or in a file, and
asks each kind of list `--repeats` times in random order: what the page asks for, clips and counts of every verdict. It
prints the 50th and 95th percentile in milliseconds, that of CPU time beside it, and the ratio of the last number of
clips to the first. Then it judges half of the clips in the background and takes it back, and prints seconds and the
process's resident memory before and at most meanwhile.
"""

import argparse
import hashlib
import json
import random
import re
import resource
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import Table, text

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.curation import Curation
from luthier_curation.database import Repository, migrate, open_engine
from luthier_curation.tables import ACCEPTED, REJECTED, ClipRow
from luthier_curation.terms import _number
from luthier_curation.verdicts import Decision
from luthier_kit.store import FolderStore, Store
from luthier_music.instruments import PROGRAM_NAMES, family_of
from luthier_music.keys import TONICS
from tests.curation.builders import fingerprint
from tests.curation.postgres import own_database, running_postgres

PAGE = 20
COUNTED = 1000
AT_ONCE = 500
COLLECTION = "bench"
MEASURED = ("p50_ms", "p95_ms", "p95_cpu_ms")
WORDS = [
    f"{first}{last}" for first in ("ka", "lo", "mi", "nu", "pe", "ra", "so", "ti") for last in ("ba", "de", "gi", "lo")
]
GENRES = ["rock", "pop", "jazz", "slow blues", "tango", "techno", "folk", "waltz", "ambient", "ska"]


SEED = 5000
NEW_ID = "'clip-' || substr(md5(seed.clip_id || CAST(:copy AS text)), 1, 24)"
COPY = (
    f"""INSERT INTO clips SELECT (made.row).* FROM (SELECT jsonb_populate_record(seed, jsonb_build_object(
        'clip_id', {NEW_ID},
        'song_fingerprint', md5(song_fingerprint || CAST(:copy AS text)) || substr(song_fingerprint, 1, 32),
        'sort_key', sort_key || '-' || CAST(:copy AS text),
        'created_at_ms', created_at_ms + CAST(:copy AS integer),
        'loudness_lufs', -40 + 30 * random(),
        'duration_s', 10 + 20 * random(),
        'tempo_bpm', 60 + 120 * random())) AS row FROM seed OFFSET 0) AS made""",
    f"""INSERT INTO clip_terms SELECT {NEW_ID}, array_to_tsvector(ARRAY(
        SELECT CASE WHEN term LIKE 'rare%'
            THEN 'rare' || CAST(CAST(substr(term, 5) AS integer) + 100 * CAST(:copy AS integer) AS text) ELSE term END
        FROM unnest(tsvector_to_array(terms)) AS term))
        FROM clip_terms JOIN seed ON seed.clip_id = clip_terms.clip_id""",
    f"""INSERT INTO opinions SELECT {NEW_ID}, opinions.reviewer, asked, opinions.verdict, opinions.reason,
        opinions.rating, opinions.remark, at_ms FROM opinions JOIN seed ON seed.clip_id = opinions.clip_id""",
    f"""INSERT INTO changes (clip_id, revision, batch_id, kind, who, automatic, at_ms, before, after)
        SELECT {NEW_ID}, changes.revision, changes.batch_id, kind, who, changes.automatic, at_ms, before, after
        FROM changes JOIN seed ON seed.clip_id = changes.clip_id""",
)
"""Statements that copy the seed once more."""


SQLITE_VALUES = {
    "clip_id": "new_id(seed.clip_id, :copy)",
    "song_fingerprint": "md5(song_fingerprint || :copy) || substr(song_fingerprint, 1, 32)",
    "sort_key": "sort_key || '-' || :copy",
    "created_at_ms": "created_at_ms + :copy",
    "loudness_lufs": "-40 + 30 * share()",
    "duration_s": "10 + 20 * share()",
    "tempo_bpm": "60 + 120 * share()",
}
"""The same in SQLite's words, with functions of `sqlite_functions`: columns of a copy that are others."""


def sqlite_statements() -> list[str]:
    """Statements that copy the seed once more."""
    names = [column.name for column in cast(Table, ClipRow.__table__).columns]
    values = ", ".join(SQLITE_VALUES.get(name, name) for name in names)
    opinion = "opinions.reviewer, asked, opinions.verdict, opinions.reason, opinions.rating, opinions.remark, at_ms"
    line = "changes.revision, changes.batch_id, kind, who, changes.automatic, at_ms, before, after"
    return [
        f"INSERT INTO clips ({', '.join(names)}) SELECT {values} FROM seed",
        """INSERT INTO clip_terms (rowid, clip_id, terms)
            SELECT number(new_id(seed.clip_id, :copy)), new_id(seed.clip_id, :copy), rarer(terms, :copy)
            FROM seed JOIN seed_terms ON seed_terms.clip_id = seed.clip_id""",
        f"""INSERT INTO opinions SELECT new_id(seed.clip_id, :copy), {opinion}
            FROM opinions JOIN seed ON seed.clip_id = opinions.clip_id""",
        f"""INSERT INTO changes (clip_id, revision, batch_id, kind, who, automatic, at_ms, before, after)
            SELECT new_id(seed.clip_id, :copy), {line} FROM changes JOIN seed ON seed.clip_id = changes.clip_id""",
    ]


def sqlite_functions(connection: sqlite3.Connection) -> None:
    """What PostgreSQL has and SQLite has not."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def rarer(terms: str, copy: int) -> str:
        return re.sub(r"\brare(\d+)", lambda found: f"rare{int(found[1]) + 100 * copy}", terms)

    connection.create_function("md5", 1, md5, deterministic=True)
    connection.create_function("new_id", 2, lambda name, copy: "clip-" + md5(f"{name}{copy}")[:24], deterministic=True)
    connection.create_function("number", 1, _number, deterministic=True)
    connection.create_function("rarer", 2, rarer, deterministic=True)
    connection.create_function("share", 0, random.random)


def rare(number: int) -> str:
    """A word that 50 clips share, however many there are."""
    return f"rare{number // 50}"


def clips(store: Store, number: int) -> Iterator[pb.NewClip]:
    """Clips of songs of ten clips each, with facts, tags and prompts as the factory makes them."""
    random.seed(number)
    audio = store.blobs.put_bytes("clips", b"fLaC", "flac", "audio/flac")
    for index in range(number):
        song, place = divmod(index, 10)
        tempo = random.uniform(60, 180)
        names = random.sample(PROGRAM_NAMES, 5)
        genre = random.choice(GENRES)
        tonic = random.choice(TONICS)
        said = f"A {genre} song with {', '.join(names)} in {tonic} major at {tempo:.0f} BPM"
        said += ", " + " ".join(random.sample(WORDS, 4))
        yield pb.NewClip(
            source=common.ClipSource(
                song_fingerprint=fingerprint(song),
                span=common.Span(start_s=30 * place, end_s=30 * place + 30),
                song=common.SongName(artist=f"Artist {song % 997}", title=f"Song {song} {rare(index)}"),
                related_fingerprints=[fingerprint(song + 1)] if song % 50 == 0 else [],
            ),
            audio=audio,
            facts=common.ClipFacts(
                duration_s=random.uniform(10, 30),
                tempo=common.TempoFact(tempo_bpm=tempo, source=common.FACT_SOURCE_TEMPO_MAP),
                estimated_tempo=common.TempoFact(tempo_bpm=tempo * random.choice([1, 1, 1, 1, 2, 1.2]), source=3),
                key=common.KeyFact(tonic=tonic, mode=random.choice([1, 2]), source=common.FACT_SOURCE_NOTES),
                estimated_key=common.KeyFact(tonic=tonic, mode=random.choice([1, 2]), source=3),
                instruments=[
                    common.InstrumentFact(instrument=name, family=family_of(name), share=0.5) for name in names
                ],
                loudness_lufs=random.uniform(-40, -10),
                descriptors=[common.Descriptor(name=f"descriptor_{n}", value=random.random()) for n in range(12)],
            ),
            tags=[common.Tag(text=genre, kind="genre", weight=1, source=random.choice(["file", "lastfm"]))],
            prompts=[
                common.Prompt(text=f"{said}, {way}", composer="grammar",
                              check=common.PromptCheck(passed=random.random() < 0.9))
                for way in ("calm", "lively", "dark")
            ],
            lineage=common.Lineage(inputs=[fingerprint(index)], versions={"rendering": "1", "analysis": "8"}),
        )  # fmt: skip


def fill(curation: Curation, number: int) -> float:
    """Seconds that it takes to bring the clips. SEED of them come through the service's own code, a third of them
    judged; the database copies these as clips of other songs, with other values of what lists are sorted by and a rare
    word each."""
    began = time.perf_counter()
    batch = list[pb.NewClip]()
    for clip in clips(curation.store, min(number, SEED)):
        batch.append(clip)
        if len(batch) == AT_ONCE:
            ids = curation.upsert(COLLECTION, batch).ids
            for verdict, some in ((ACCEPTED, ids[::6]), (REJECTED, ids[1::6])):
                curation.review(dict.fromkeys(some, 0), Decision(verdict, random.choice(["Ada", "Bob"])))
            batch.clear()
    engine = curation.repository.engine
    in_file = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        if in_file:
            sqlite_functions(cast(sqlite3.Connection, connection.connection.driver_connection))
            connection.execute(text("CREATE TEMPORARY TABLE seed_terms AS SELECT clip_id, terms FROM clip_terms"))
            connection.execute(text("CREATE INDEX temp.seed_terms_clip ON seed_terms (clip_id)"))
        connection.execute(text("CREATE TEMPORARY TABLE seed AS SELECT * FROM clips"))
        for copy in range(1, number // SEED):
            for statement in sqlite_statements() if in_file else COPY:
                connection.execute(text(statement), {"copy": copy})
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        if not in_file:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return time.perf_counter() - began


def questions() -> dict[str, pb.ListClipsRequest]:
    """What people ask for: every order, every filter."""
    open_ones = {"collection": COLLECTION, "verdict": pb.VERDICT_OPEN}
    asked = {
        **{
            f"order {name.removeprefix('CLIP_ORDER_').lower()}": pb.ListClipsRequest(
                filter=pb.ClipFilter(**open_ones), order=order
            )
            for name, order in pb.ClipOrder.items()
        },
        "any verdict, next": pb.ListClipsRequest(filter=pb.ClipFilter(collection=COLLECTION), order=pb.CLIP_ORDER_NEXT),
        "all collections": pb.ListClipsRequest(),
    }
    filters: dict[str, dict[str, object]] = {
        "key": {"tonic": "Eb", "mode": common.MODE_MINOR},
        "tag": {"tag": "slow blues"},
        "tag source": {"tag_source": "lastfm"},
        "artist": {"artist": "artist 7"},
        "fact source": {"fact_source": common.FACT_SOURCE_NOTES},
        "disagreement": {"disagreement": pb.ESTIMATOR_DISAGREEMENT_KEY},
        "near-duplicates": {"near_duplicates": True},
        "reviewer": {"reviewer": "Ada"},
        "checked": {"checked": False},
        "instrument": {"instrument": "Piano"},
        "tempo": {"min_tempo_bpm": 119.5, "max_tempo_bpm": 120.5},
        "word, common": {"text": "jazz"},
        "words, three": {"text": "jazz kaba lode"},
        "word, rare": {"text": "rare3"},
        "word, any end": {"text": "waltz cell*"},
        "word, none": {"text": "nothing"},
        "conflict": {"conflict": True},
        "rating": {"min_rating": 3},
    }
    for name, which in filters.items():
        asked[f"filter {name}"] = pb.ListClipsRequest(filter=pb.ClipFilter(collection=COLLECTION, **which))  # type: ignore[arg-type]
        asked[f"filter {name}, next"] = pb.ListClipsRequest(
            filter=pb.ClipFilter(**open_ones, **which),
            order=pb.CLIP_ORDER_NEXT,  # type: ignore[arg-type]
        )
    for request in asked.values():
        request.count_limit = 0
    return asked


def deep(curation: Curation, request: pb.ListClipsRequest, pages: int) -> pb.ListClipsRequest:
    """The same list, some pages on."""
    behind = pb.ListClipsRequest()
    behind.CopyFrom(request)
    for _ in range(pages):
        behind.page_token = curation.page(behind, PAGE).next_token or behind.page_token
    return behind


@dataclass(frozen=True)
class Took:
    """Milliseconds by the clock, and of CPU: this process and the database's backend together. What else the machine
    does makes the first longer and not the second."""

    clock_ms: float
    cpu_ms: float


def backend_cpu_ms(pid: int) -> float:
    """CPU time of a process until now; 0 = there is none, as SQLite computes in ours."""
    return 0.0 if not pid else int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def backend_of(curation: Curation) -> int:
    """Process of the database that answers, 0 = ours; the pool of one thread has one connection."""
    if curation.repository.engine.dialect.name == "sqlite":
        return 0
    with curation.repository.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def measure(curations: dict[int, Curation], repeats: int) -> dict[int, dict[str, list[Took]]]:
    """What each question took, by number of clips and name. Asked of all in turns: what else the machine does meanwhile
    slows one as it slows the others."""
    tries = list[tuple[int, str]]()
    asked: dict[int, dict[str, pb.ListClipsRequest]] = {}
    for number, curation in curations.items():
        asked[number] = questions()
        for name in ("order next", "order loudness"):
            asked[number][f"{name}, page 20"] = deep(curation, asked[number][name], 19)
        tries += [(number, name) for name in asked[number] for _ in range(repeats)]
    backends = {number: backend_of(curation) for number, curation in curations.items()}
    random.seed(1)
    random.shuffle(tries)
    took: dict[int, dict[str, list[Took]]] = {number: {name: [] for name in found} for number, found in asked.items()}
    for number, name in tries:
        began, ours, theirs = time.perf_counter(), time.process_time(), backend_cpu_ms(backends[number])
        curations[number].page(asked[number][name], PAGE)
        curations[number].verdict_counts(asked[number][name].filter, COUNTED)
        cpu_ms = 1000 * (time.process_time() - ours) + backend_cpu_ms(backends[number]) - theirs
        took[number][name].append(Took(1000 * (time.perf_counter() - began), cpu_ms))
    assert backends == {number: backend_of(curation) for number, curation in curations.items()}
    return took


def resident_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def in_background(curation: Curation, batch: pb.Batch) -> tuple[float, float, pb.Batch]:
    """Seconds until a batch is done, resident memory at most meanwhile, and the batch."""
    began, most = time.perf_counter(), resident_mib()
    waited = threading.Event()
    while batch.state == pb.BATCH_STATE_RUNNING:
        waited.wait(0.05)
        most = max(most, resident_mib())
        batch = curation.batch(batch.batch_id)
    return time.perf_counter() - began, most, batch


def bulk(curation: Curation, number: int) -> dict[str, float]:
    """Judges about half of the clips in the background, and takes it back; seconds, and memory in MiB."""
    before = resident_mib()
    half = pb.ClipFilter(collection=COLLECTION, tag_source="lastfm")
    begun = curation.review_in_background(half, Decision(REJECTED, "Cy", reason="other"))
    took, most, batch = in_background(curation, begun)
    back, most_back, undone = in_background(curation, curation.undo_in_background(batch.batch_id, "Cy"))
    print(f"{number} clips: verdict on {batch.seen} in {took:.1f} s, undone in {back:.1f} s,"
          f" memory {before:.0f} -> at most {max(most, most_back):.0f} MiB", flush=True)  # fmt: skip
    assert (batch.state, undone.state) == (pb.BATCH_STATE_DONE, pb.BATCH_STATE_DONE)
    return {"clips": batch.seen, "s": took, "undo_s": back, "before_mib": before, "most_mib": max(most, most_back)}


def percentile(values: list[float], share: float) -> float:
    """Of a list of numbers."""
    return statistics.quantiles(values, n=100, method="inclusive")[round(100 * share) - 1]


def main() -> None:
    """Prints tables; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[5000, 100_000])
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--repeats", type=int, default=30, help="of each kind of list")
    parser.add_argument("--lists-only", action="store_true", help="no verdict about half of them")
    arguments = parser.parse_args()
    numbers = arguments.clips
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as databases:
        server = databases.enter_context(running_postgres()) if arguments.database == "postgresql" else ""
        (Path(folder) / "luthier").mkdir()
        store = Store(FolderStore(Path(folder), "luthier"))
        curations = dict[int, Curation]()
        for number in numbers:
            url = databases.enter_context(own_database(server)) if server else f"sqlite:///{folder}/{number}.sqlite3"
            engine = open_engine(url)
            databases.callback(engine.dispose)
            migrate(engine)
            curations[number] = Curation(Repository(engine), store)
            print(f"{number} clips: brought in {fill(curations[number], number):.0f} s", flush=True)
        found = measure(curations, arguments.repeats)
        for number, curation in curations.items():
            if not arguments.lists_only:
                result[f"bulk {number}"] = bulk(curation, number)
            curation.batches.stop()
    first, last = numbers[0], numbers[-1]
    heads = " ".join(f"{number:>7}: p50, p95, CPU p95" for number in numbers)
    print(f"{'milliseconds':32} {heads}   ratio of CPU p95")
    for name in found[last]:
        row = [summary(found[number][name]) for number in numbers]
        cells = " ".join(f"{p50:12.1f} {p95:7.1f} {cpu:7.1f}" for p50, p95, cpu in row)
        print(f"{name:32} {cells}   {row[-1][2] / row[0][2]:.2f}")
    every = {number: summary([took for each in found[number].values() for took in each]) for number in numbers}
    for number, (p50, p95, cpu) in every.items():
        print(f"all lists of {number} clips: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p95 of CPU {cpu:.1f} ms")
    worst = max(found[last], key=lambda name: summary(found[last][name])[2])
    result["lists"] = {number: dict(zip(MEASURED, each, strict=True)) for number, each in every.items()}
    result["ratio_of_p95"] = every[last][1] / every[first][1]
    result["ratio_of_p95_cpu"] = every[last][2] / every[first][2]
    result["worst"] = {"list": worst, "p95_cpu_ms": summary(found[last][worst])[2]}
    print(json.dumps(result))


def summary(took: list[Took]) -> tuple[float, float, float]:
    """50th and 95th percentile by the clock, 95th of CPU; milliseconds."""
    clock = [each.clock_ms for each in took]
    return percentile(clock, 0.5), percentile(clock, 0.95), percentile([each.cpu_ms for each in took], 0.95)


if __name__ == "__main__":
    main()
