"""Curation with many clips on PostgreSQL: lists, filters, words, a verdict about half of them, memory.

    services/curation/.venv/bin/python -m tests.bench.curation --clips 5000 100000

fills a database for each number of clips (a multiple of 5000) on a PostgreSQL server of its own, and asks each kind of
list REPEATS times in random order: what the page asks for, clips and counts of every verdict. It prints the 50th and
95th percentile in milliseconds, and the ratio of the last number of clips to the first. Then it judges half of the
clips in the background and takes it back, and prints seconds and the process's resident memory before and at most
meanwhile.
"""

import argparse
import json
import random
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import text

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.curation import Curation
from luthier_curation.database import Repository, migrate, open_engine
from luthier_curation.tables import ACCEPTED, REJECTED
from luthier_curation.verdicts import Decision
from luthier_kit.store import FolderStore, Store
from luthier_music.instruments import PROGRAM_NAMES, family_of
from luthier_music.keys import TONICS
from tests.curation.builders import fingerprint
from tests.curation.postgres import own_database, running_postgres

REPEATS = 30
PAGE = 20
COUNTED = 1000
AT_ONCE = 500
COLLECTION = "bench"
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
    with curation.repository.engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE seed AS SELECT * FROM clips"))
        for copy in range(1, number // SEED):
            for statement in COPY:
                connection.execute(text(statement), {"copy": copy})
    with curation.repository.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
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


def measure(curations: dict[int, Curation]) -> dict[int, dict[str, list[float]]]:
    """Milliseconds of each question, by number of clips and name. Asked of all in turns: what else the machine does
    meanwhile slows one as it slows the others."""
    tries = list[tuple[int, str]]()
    asked: dict[int, dict[str, pb.ListClipsRequest]] = {}
    for number, curation in curations.items():
        asked[number] = questions()
        for name in ("order next", "order loudness"):
            asked[number][f"{name}, page 20"] = deep(curation, asked[number][name], 19)
        tries += [(number, name) for name in asked[number] for _ in range(REPEATS)]
    random.seed(1)
    random.shuffle(tries)
    took: dict[int, dict[str, list[float]]] = {number: {name: [] for name in found} for number, found in asked.items()}
    for number, name in tries:
        began = time.perf_counter()
        curations[number].page(asked[number][name], PAGE)
        curations[number].verdict_counts(asked[number][name].filter, COUNTED)
        took[number][name].append(1000 * (time.perf_counter() - began))
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
    half = pb.ReviewClipsRequest(
        filter=pb.ClipFilter(collection=COLLECTION, tag_source="lastfm"),
        verdict=pb.VERDICT_REJECTED, reason=pb.REJECT_REASON_OTHER, reviewer="Cy",
    )  # fmt: skip
    took, most, batch = in_background(curation, curation.review_in_background(half))
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
    numbers = parser.parse_args().clips
    result: dict[str, object] = {}
    with running_postgres() as server, tempfile.TemporaryDirectory() as folder, ExitStack() as databases:
        (Path(folder) / "luthier").mkdir()
        store = Store(FolderStore(Path(folder), "luthier"))
        curations = dict[int, Curation]()
        for number in numbers:
            engine = open_engine(databases.enter_context(own_database(server)))
            databases.callback(engine.dispose)
            migrate(engine)
            curations[number] = Curation(Repository(engine), store)
            print(f"{number} clips: brought in {fill(curations[number], number):.0f} s", flush=True)
        found = measure(curations)
        for number, curation in curations.items():
            result[f"bulk {number}"] = bulk(curation, number)
            curation.batches.stop()
    first, last = numbers[0], numbers[-1]
    print(f"{'':32} " + " ".join(f"{number:>8} p50 {'p95':>7}" for number in numbers) + "   ratio of p50, p95")
    for name in found[last]:
        row = [(percentile(found[n][name], 0.5), percentile(found[n][name], 0.95)) for n in numbers]
        print(f"{name:32} " + " ".join(f"{p50:12.1f} {p95:7.1f}" for p50, p95 in row)
              + f"   {row[-1][0] / row[0][0]:.2f} {row[-1][1] / row[0][1]:.2f}")  # fmt: skip
    every = {number: [ms for each in found[number].values() for ms in each] for number in numbers}
    tail = {number: percentile(values, 0.95) for number, values in every.items()}
    middle = {number: percentile(values, 0.5) for number, values in every.items()}
    print("all: " + ", ".join(f"{number} clips p95 {ms:.1f} ms" for number, ms in tail.items())
          + f", ratio {tail[last] / tail[first]:.2f}")  # fmt: skip
    worst = max(found[last], key=lambda name: percentile(found[last][name], 0.95))
    result |= {"p50_ms": middle, "p95_ms": tail, "ratio_of_p50": middle[last] / middle[first],
               "ratio_of_p95": tail[last] / tail[first], "worst": worst,
               "worst_p95_ms": percentile(found[last][worst], 0.95)}  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
