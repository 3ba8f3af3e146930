"""How far runs are: each process of a run publishes its part, `luthier status` and the monitor read and sum them.

A run has one series for its ingest and one for each shard, `runs/pipeline-<collection>/<run>/ingest/<n>.json` and
`runs/pipeline-<collection>/<run>/<i>-of-<N>/<n>.json`; the newest entry is the state.
"""

import logging
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from luthier.pipeline.v1.pipeline_pb2 import (
    PART_STATE_DONE,
    PART_STATE_FAILED,
    PART_STATE_INTERRUPTED,
    PART_STATE_RUNNING,
    PartProgress,
    PartState,
    SongFailure,
)
from luthier_kit.rpc import Internal, LuthierError, status_of
from luthier_kit.store import Series, Store

log = logging.getLogger(__name__)
INGEST: Final = "ingest"
"""Name of the part that writes the manifest; a shard's is `<i>-of-<N>`."""
ROOT: Final = "runs/pipeline-"
PUBLISH_EVERY_S: Final = 4.0
PUBLISH_SELDOM_S: Final = 20.0
PUBLISHED_AT_ONCE: Final = 50.0
"""Entries a second that all shards of a run may write, until each writes every PUBLISH_SELDOM_S only."""
LAST_WORD_S: Final = 8.0  # an interrupted process has little time left: a store that does not answer is not waited for
SILENT_S: Final = 60.0
"""A running part that says nothing for so long is silent: dead, or cut off from the store."""
LONG_DEAD_S: Final = 3600.0
MAX_FAILURES: Final = 500
NO_CLIPS: Final = "NO_CLIPS"
"""Reason among the failures of a song that went all the way and gave no clip."""
"""Failures that a part publishes; its numbers are complete."""
WAITING: Final = "WAITING"
"""State of a run some of whose shards have not begun."""


def part_series(store: Store, collection: str, run: str, part: str) -> Series[PartProgress]:
    """What a part of a run, INGEST or a shard, says of itself."""
    return store.series(PartProgress, f"{ROOT}{collection}/{run}/{part}", _old_part)


def publish_every_s(shards: int) -> float:
    """Seconds between two entries of a part of a run of so many shards; far less than SILENT_S."""
    return min(max(PUBLISH_EVERY_S, shards / PUBLISHED_AT_ONCE), PUBLISH_SELDOM_S)


class ProgressPublisher:
    """Says at once that a part of a run began, every few seconds where it is, and at last how it ended.

    A context manager: leaving it by an exception notes INTERRUPTED (Ctrl-C, SIGTERM) or FAILED with the reason. While
    the store does not answer, nothing is said and the work goes on. What lies two entries back is deleted.
    """

    def __init__(self, store: Store, progress: PartProgress) -> None:
        self._series = part_series(store, progress.collection, progress.run, progress.part)
        self._progress = progress
        self._every_s = publish_every_s(progress.shard.shards)
        self._began_at = _now()
        self._host = socket.gethostname()
        self._number = 0
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._publish, name="progress", daemon=True)

    def update(self, progress: PartProgress) -> None:
        """Where the work is, published within `publish_every_s`. The message must not be changed afterwards."""
        self._progress = progress

    def finish(self, progress: PartProgress) -> None:
        """The last entry: DONE. Raises LuthierError when the store does not take it."""
        self._progress = progress
        self._ended.set()
        self._append(PART_STATE_DONE)

    def __enter__(self) -> "ProgressPublisher":
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._ended.set()
        if error is None:
            return
        state = PART_STATE_INTERRUPTED if isinstance(error, KeyboardInterrupt) else PART_STATE_FAILED
        known = error if isinstance(error, LuthierError) else Internal(type(error).__name__)
        last_word = threading.Thread(target=self._try_to_append, args=(state, known), daemon=True)
        last_word.start()
        last_word.join(LAST_WORD_S)

    def _publish(self) -> None:
        while not self._ended.is_set():
            self._try_to_append(PART_STATE_RUNNING)
            self._ended.wait(self._every_s)

    def _try_to_append(self, state: PartState, error: LuthierError | None = None) -> None:
        try:
            self._append(state, error)
        except LuthierError as refused:
            log.warning("progress was not published: %s", refused)

    def _append(self, state: PartState, error: LuthierError | None = None) -> None:
        with self._writing:
            if state == PART_STATE_RUNNING and self._ended.is_set():
                return
            entry = PartProgress()
            entry.CopyFrom(self._progress)
            entry.host, entry.state = self._host, state
            entry.began_at.CopyFrom(self._began_at)
            entry.updated_at.CopyFrom(_now())
            if error and state == PART_STATE_FAILED:
                entry.error.CopyFrom(status_of(error, "pipeline"))
            self._number = self._series.append(entry, after=self._number)
            if self._number > 2:
                self._series.delete(self._number - 2)


@dataclass(frozen=True)
class RunStatus:
    """All that is known of one run: its ingest, if it has one, and the shards that have reported."""

    collection: str
    name: str
    ingest: PartProgress | None = None
    shards: list[PartProgress] = field(default_factory=list)

    @property
    def parts(self) -> list[PartProgress]:
        """Every part that has reported."""
        return [*([self.ingest] if self.ingest else []), *self.shards]

    @property
    def updated_at(self) -> float:
        """When anything was last heard of it, seconds since the epoch."""
        return max(seconds(part.updated_at) for part in self.parts)

    @property
    def songs(self) -> int:
        """Songs of the whole corpus; 0 until it is known."""
        return max(part.corpus_songs for part in self.parts)

    @property
    def unclaimed(self) -> int:
        """Songs of shards that have not begun."""
        return max(0, self.songs - self.total(lambda part: part.shard.songs))

    @property
    def shard_count(self) -> int:
        """Shards of the run; 0 until one has begun."""
        return max((part.shard.shards for part in self.shards), default=0)

    def total(self, number: Callable[[PartProgress], int]) -> int:
        """A number summed over all shards."""
        return sum(number(part) for part in self.shards)

    @property
    def state(self) -> str:
        """RUNNING while any part runs; WAITING for shards that have not begun; else how it ended."""
        states = {part.state for part in self.parts}
        for state in (PART_STATE_RUNNING, PART_STATE_FAILED, PART_STATE_INTERRUPTED):
            if state in states:
                return state_name(state)
        complete = self.shards and len(self.shards) >= self.shard_count
        return state_name(PART_STATE_DONE) if complete else WAITING

    @property
    def eta_s(self) -> float | None:
        """Seconds until the slowest shard that runs is done; None while unknown."""
        running = [part.shard for part in self.shards if part.state == PART_STATE_RUNNING]
        return max((shard.eta_s for shard in running if shard.HasField("eta_s")), default=None)

    @property
    def failures(self) -> list[SongFailure]:
        """Failures of all parts, each song (or variation) and stage once."""
        return list({(f.path, f.variation, f.stage): f for part in self.parts for f in part.failures}.values())


def silent_s(part: PartProgress, now: float) -> float:
    """Seconds for which a part that runs has said nothing, 0 while it is not silent. `now`: seconds since the epoch."""
    quiet_s = now - seconds(part.updated_at)
    return quiet_s if part.state == PART_STATE_RUNNING and quiet_s > SILENT_S else 0.0


def work_waiting(run: RunStatus, forget_s: float, now: float) -> int:
    """Songs and files of a run that still need a render worker.

    A part that is interrupted or failed asks for nothing until its Job starts it again. A part that is silent still
    counts, because its Job will replace it, but not beyond `forget_s`. Songs of shards that have not begun count where
    shards are sure to come: the run was submitted, or other shards of it are alive.
    """
    running = (part for part in run.parts if part.state == PART_STATE_RUNNING)
    live = [part for part in running if now - seconds(part.updated_at) < forget_s]
    waiting = sum(part.need_render for part in live)
    submitted = run.ingest and run.ingest.state == PART_STATE_DONE and run.ingest.ingest.submitted
    if (submitted and now - run.updated_at < forget_s) or any(part.part != INGEST for part in live):
        waiting += run.unclaimed
    return waiting


class RunStatusReader:
    """Reads all runs; again and again for little: one listing a collection, one read for each entry that is new."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[str, tuple[int, PartProgress]] = {}  # by series, with the number of the entry

    def runs(self, collection: str = "") -> list[RunStatus]:
        """Every run (of one collection), the one last heard of first. Raises Unavailable when the store is down."""
        prefix = ROOT.rpartition("/")[2]
        names = [collection] if collection else [name.removeprefix(prefix) for name in self.store.names(ROOT)]
        found = [run for name in names for run in self._runs_of(name)]
        return sorted(found, key=lambda run: run.updated_at, reverse=True)

    def _runs_of(self, collection: str) -> Iterator[RunStatus]:
        folder = f"{ROOT}{collection}/"
        newest: dict[str, int] = {}  # entry of each series <folder>/<run>/<part>
        for key in self.store.objects.keys(folder):
            series, _, entry = key.rpartition("/")
            number = entry.removesuffix(".json")
            if series.count("/") == folder.count("/") + 1 and number.isdecimal():
                newest[series] = max(newest.get(series, 0), int(number))
        for series in [known for known in self._known if known.startswith(folder) and known not in newest]:
            del self._known[series]  # deleted since
        parts: dict[str, list[PartProgress]] = defaultdict(list)
        for series, newest_entry in newest.items():
            run, _, part_name = series.removeprefix(folder).partition("/")
            if part := self._newest(part_series(self.store, collection, run, part_name), newest_entry):
                parts[run].append(part)
        for run, reported in parts.items():
            ingest = next((part for part in reported if part.part == INGEST), None)
            shards = sorted((p for p in reported if p.part != INGEST), key=lambda part: seconds(part.updated_at))
            split = [part for part in shards if part.shard.shards == shards[-1].shard.shards]  # as it was split last
            yield RunStatus(collection, run, ingest, sorted(split, key=lambda part: part.shard.shard))

    def _newest(self, series: Series[PartProgress], number: int) -> PartProgress | None:
        known = self._known.get(series.name)
        if known is None or known[0] != number:
            entry = series.entry(number)
            known = (number, entry) if entry else series.latest()  # deleted since the listing: there is a newer one
            if known:
                self._known[series.name] = known
        return known[1] if known else None


def failed_name(failure: SongFailure) -> str:
    """What failed: a file's path, and the number of its variation."""
    return f"{failure.path}, variation {failure.variation}" if failure.variation else failure.path


def delete_old_runs(store: Store, collection: str, keep: str) -> None:
    """Deletes what a collection's runs published that ended or fell silent long ago; `keep` is the one that begins."""
    now = time.time()
    for run in RunStatusReader(store).runs(collection):
        over = all(part.state != PART_STATE_RUNNING or silent_s(part, now) > LONG_DEAD_S for part in run.parts)
        if run.name != keep and over:
            for key in list(store.objects.keys(f"{ROOT}{collection}/{run.name}/")):
                store.objects.delete(key)


def state_name(state: PartState) -> str:
    """`RUNNING`, `DONE`, `FAILED` or `INTERRUPTED`."""
    return PartState.Name(state).removeprefix("PART_STATE_")


def seconds(stamp: Timestamp) -> float:
    """Seconds since the epoch."""
    return float(stamp.ToNanoseconds()) / 1e9


def timestamp(since_epoch_s: float) -> Timestamp:
    """Seconds since the epoch as a message."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int(since_epoch_s * 1e9))
    return stamp


def _now() -> Timestamp:
    return timestamp(time.time())


def _old_part(value: Mapping[str, Any]) -> PartProgress | None:
    """Luthier 0.1: one flat object, times in seconds since the epoch, the state's name without a prefix."""
    if "at" not in value:
        return None
    part = PartProgress(
        collection=value["collection"],
        run=value["run"],
        part=value["part"],
        host=value.get("host", ""),
        state=f"PART_STATE_{value['state']}",
        began_at=timestamp(value.get("began_at", value["at"])),
        updated_at=timestamp(value["at"]),
        failures=[SongFailure(**row) for row in value.get("failures", [])],
        corpus_songs=value.get("corpus_songs", 0),
        need_render=value.get("need_render", 0),
    )
    if "reason" in value:
        part.error.CopyFrom(status_of(Internal(value["message"], reason=value["reason"]), "pipeline"))
    work = part.ingest if value["part"] == INGEST else part.shard
    work.SetInParent()
    ParseDict({name: value[name] for name in work.DESCRIPTOR.fields_by_name if name in value}, work)
    return part
