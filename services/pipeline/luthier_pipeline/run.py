"""A whole corpus: a bounded number of songs in flight, progress, one summary.

There is no state of its own: a stage that is done is found by its action record, so a run that was interrupted, killed
or repeated goes on where the work stands. Progress is also appended to the series `runs/pipeline-<collection>`, which
`luthier status` reads.
"""

import os
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial

from luthier_kit.artifacts import Artifacts
from luthier_pipeline.corpus import Corpus, Entry
from luthier_pipeline.failure import Failure, StageError, fatal
from luthier_pipeline.progress import Progress
from luthier_pipeline.song import Made, SongWay

NOTE_EVERY_S = 10.0


@dataclass
class Summary:
    """What a run came to; the last line of `luthier run --json`.

    files = songs + duplicates + failures at ingest; songs = rendered + failures after ingest. `seconds` is wall clock,
    `audio_s` rendered music, `cpu_s` CPU seconds by stage where the service says them.
    """

    files: int = 0
    duplicates: int = 0
    songs: int = 0
    rendered: int = 0
    clips: int = 0
    seconds: float = 0.0
    audio_s: float = 0.0
    computed: int = 0
    reused: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def add(self, made: Made) -> None:
        """A song that went all the way."""
        self.rendered += 1
        self.clips += made.clips
        self.audio_s += made.audio_s
        self.computed += made.computed
        self.reused += made.reused
        for stage, seconds in made.cpu_s.items():
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + seconds

    def document(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)


class Diary:
    """Appends how far a run is, every few seconds, for `luthier status`."""

    def __init__(self, store: Artifacts, collection: str) -> None:
        self.store = store
        self.series = f"runs/pipeline-{collection}"
        self.run = uuid.uuid4().hex[:12]
        self._noted_at = 0.0
        self._lock = threading.Lock()

    def note(self, state: str, summary: Summary, eta_s: float | None = None, *, always: bool = False) -> None:
        """Appends an event when the last one is old enough."""
        with self._lock:
            if not always and time.monotonic() - self._noted_at < NOTE_EVERY_S:
                return
            self._noted_at = time.monotonic()
        event = {"run": self.run, "state": state, "at": time.time(), "eta_s": eta_s, **summary.document()}
        self.store.append(self.series, event)


def run_songs(corpus: Corpus, way: SongWay, summary: Summary, in_flight: int, diary: Diary) -> None:
    """Takes every song of a corpus along the way and fills the summary.

    Raises the error of a service that stays away; a song that fails is a row of the summary. On KeyboardInterrupt the
    songs in flight are abandoned where they stand.
    """
    songs = corpus.songs
    progress = Progress("songs", len(songs), sum(song.duration_s for song in songs))
    with _workers(in_flight, way) as pool:
        waiting, running = iter(songs), dict[Future[Made], Entry]()
        while True:
            while len(running) < in_flight and (entry := next(waiting, None)) is not None:
                running[pool.submit(way.make, entry, partial(_show, progress, entry))] = entry
            if not running:
                break
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                entry = running.pop(future)
                _settle(future, entry, summary)
                progress.advance(entry.duration_s, f"{summary.clips} clips, {len(summary.failures)} failures")
            diary.note("RUNNING", summary, progress.eta_s)
    progress.finish(f"{summary.clips} clips, {len(summary.failures)} failures")


def _show(progress: Progress, entry: Entry, stage: str) -> None:
    progress.show(f"{stage}: {entry.path}")


def _settle(future: Future[Made], entry: Entry, summary: Summary) -> None:
    try:
        summary.add(future.result())
    except StageError as failed:
        if fatal(failed.error):
            raise failed.error from None
        summary.failures.append(Failure(entry.path, failed.stage, failed.error.reason, str(failed.error)))


@contextmanager
def _workers(in_flight: int, way: SongWay) -> Iterator[ThreadPoolExecutor]:
    """A pool that is left at once when the run ends early: the clients close, so that nothing waits for calls."""
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="song")
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        way.place.close()
        raise
    pool.shutdown()


def default_in_flight() -> int:
    """Twice the cores: while one song is rendered, another is cut."""
    return max(4, 2 * (os.cpu_count() or 2))
