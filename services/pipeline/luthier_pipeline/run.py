"""A whole corpus: a bounded number of songs in flight, progress, one summary.

There is no state of its own: a stage that is done is found by its action record, so a run that was interrupted, killed
or repeated goes on where the work stands. How far it is goes into its diary.
"""

import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from luthier_pipeline.corpus import Entry
from luthier_pipeline.diary import Diary
from luthier_pipeline.failure import Failure, StageError, fatal
from luthier_pipeline.progress import Progress
from luthier_pipeline.song import Made, SongWay
from luthier_pipeline.workers import leaving_at_once

MAX_FAILURES_TOLD = 500  # of a shard, in its diary; the numbers are complete
SHARD_IN_FLIGHT = 16  # a shard only calls: the work is done by workers elsewhere, as many as there are


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

    def counts(self) -> dict[str, object]:
        """Plain JSON of all but the failures, of which there may be very many."""
        return {name: value for name, value in vars(self).items() if name != "failures"}

    def document(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)


@dataclass
class Flight:
    """Songs that are under way, and which of them still need a render worker."""

    songs: int
    running: dict[Future[Made], Entry] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    settled: int = 0

    def facts(self, summary: Summary, eta_s: float | None) -> dict[str, Any]:
        """What the diary says."""
        waiting = self.songs - self.settled - len(self.running)
        rendering = sum(self.stages.get(entry.path, "render") == "render" for entry in self.running.values())
        failed = self.settled - summary.rendered
        told = summary.counts() | {"failures": [asdict(f) for f in summary.failures[-MAX_FAILURES_TOLD:]]}
        counts = {"waiting": waiting, "in_flight": len(self.running), "failed": failed}
        return {**told, **counts, "songs": self.songs, "need_render": waiting + rendering, "eta_s": eta_s}


def run_songs(songs: list[Entry], way: SongWay, summary: Summary, in_flight: int, diary: Diary) -> Flight:
    """Takes songs along the way and fills the summary.

    Raises the error of a service that stays away; a song that fails is a row of the summary. On KeyboardInterrupt the
    songs in flight are abandoned where they stand.
    """
    progress = Progress("songs", len(songs), sum(song.duration_s for song in songs))
    flight, waiting = Flight(len(songs)), iter(songs)
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="song")
    with leaving_at_once(pool, way.place.close):
        while True:
            while len(flight.running) < in_flight and (entry := next(waiting, None)) is not None:
                flight.running[pool.submit(way.make, entry, partial(_show, progress, flight, entry))] = entry
            if not flight.running:
                break
            diary.tell(**flight.facts(summary, progress.eta_s))
            for future in wait(flight.running, timeout=1.0, return_when=FIRST_COMPLETED).done:
                entry = flight.running.pop(future)
                flight.settled += 1
                _settle(future, entry, summary)
                progress.advance(entry.duration_s, f"{summary.clips} clips, {len(summary.failures)} failures")
    progress.finish(f"{summary.clips} clips, {len(summary.failures)} failures")
    return flight


def _show(progress: Progress, flight: Flight, entry: Entry, stage: str) -> None:
    flight.stages[entry.path] = stage
    progress.show(f"{stage}: {entry.path}")


def _settle(future: Future[Made], entry: Entry, summary: Summary) -> None:
    try:
        summary.add(future.result())
    except StageError as failed:
        if fatal(failed.error):
            raise failed.error from None
        summary.failures.append(Failure(entry.path, failed.stage, failed.error.reason, str(failed.error)))


def default_in_flight() -> int:
    """Twice the cores: while one song is rendered, another is cut."""
    return max(4, 2 * (os.cpu_count() or 2))
