"""Live runs as Prometheus metrics: what the Pods of the pipeline publish into the store, read every few seconds.

At zero render workers nobody but the pipeline knows what waits, so KEDA scales from 0 on
`luthier_pipeline_work_waiting`. The number is there whenever the store can be read, 0 when nothing runs; while the
store cannot be read it is absent, which means unknown and must never be taken for 0.
"""

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import LuthierError
from luthier_kit.settings import setting
from luthier_pipeline.board import Board, Run, silent_s, work_waiting
from luthier_pipeline.diary import RUNNING

log = logging.getLogger(__name__)
STALE_S = 15.0
"""What was read longer ago is not known any more: a read hangs, or the store is down."""
SONG_STATES = ("waiting", "in_flight", "done", "failed")
SHARD_STATES = ("running", "done", "failed", "interrupted", "silent", "waiting")


@dataclass(frozen=True)
class MonitorSettings:
    """Settings of the monitor, beside those of the store."""

    metrics_address: str = setting("LUTHIER_METRICS_ADDRESS", default="127.0.0.1:7200", help="host:port of /metrics")
    every_s: float = setting("LUTHIER_MONITOR_EVERY_S", default=3.0, low=0.1, high=60, help="pause between two reads")
    forget_s: float = setting(
        "LUTHIER_MONITOR_FORGET_S", default=3600.0, low=60, high=864000, help="a part silent for longer is gone"
    )


class Monitor(Collector):
    """Reads the store in `follow`, and answers scrapes from what it read last."""

    def __init__(self, open_store: Callable[[], Artifacts], settings: MonitorSettings) -> None:
        self.settings = settings
        self._open_store = open_store
        self._board: Board | None = None
        self._runs: list[Run] = []
        self._read_at = float("-inf")  # monotonic; of the last read that succeeded
        self._complaint = ""

    def follow(self, stop: threading.Event) -> None:
        """Reads until `stop` is set."""
        while not stop.is_set():
            self.read()
            stop.wait(self.settings.every_s)

    def read(self) -> None:
        """One look at the store. A store that is down makes everything unknown."""
        try:
            self._board = self._board or Board(self._open_store())
            self._runs = self._board.runs()
            self._read_at, complaint = time.monotonic(), ""
        except LuthierError as error:
            self._read_at, complaint = float("-inf"), f"{error.reason}: {error}"
        if complaint != self._complaint:
            log.warning(complaint or "the store can be read again")
            self._complaint = complaint

    def collect(self) -> Iterator[Metric]:
        """The metrics of one scrape."""
        known = time.monotonic() - self._read_at < max(STALE_S, 3 * self.settings.every_s)
        yield GaugeMetricFamily("luthier_monitor_store_up", "1 when the store can be read", value=float(known))
        if not known:
            return
        now = time.time()
        heard = [run for run in self._runs if now - run.at < self.settings.forget_s]
        waiting = GaugeMetricFamily(
            "luthier_pipeline_work_waiting",
            "Songs and files of all live runs that still need a render worker; absent = unknown",
            labels=["stage"],
        )
        waiting.add_metric(["rendering"], sum(work_waiting(run, self.settings.forget_s, now) for run in heard))
        yield waiting
        yield _numbers("luthier_pipeline_songs", "Songs of runs by state", SONG_STATES, _songs(heard))
        yield _numbers("luthier_pipeline_shards", "Shards of runs by state", SHARD_STATES, _shards(heard, now))
        yield from _by_collection(heard)


def _songs(runs: list[Run]) -> dict[str, Counter]:
    songs: dict[str, Counter] = defaultdict(Counter)
    for run in runs:
        songs[run.collection] += Counter(
            waiting=run.total("waiting") + run.unclaimed,
            in_flight=sum(int(s["in_flight"]) for s in run.shards if s["state"] == RUNNING),
            done=run.total("rendered"),
            failed=run.total("failed"),
        )
    return songs


def _shards(runs: list[Run], now: float) -> dict[str, Counter]:
    """`waiting` = shards that have not begun."""
    shards: dict[str, Counter] = defaultdict(Counter)
    for run in runs:
        shards[run.collection]["waiting"] += run.count - len(run.shards)
        for shard in run.shards:
            shards[run.collection]["silent" if silent_s(shard, now) else shard["state"].lower()] += 1
    return shards


def _numbers(name: str, text: str, states: tuple[str, ...], found: dict[str, Counter]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["collection", "state"])
    for collection, counts in found.items():
        for state in states:
            family.add_metric([collection, state], counts[state])
    return family


def _by_collection(runs: list[Run]) -> Iterator[Metric]:
    clips = GaugeMetricFamily("luthier_pipeline_clips", "Clips that runs have made", labels=["collection"])
    eta = GaugeMetricFamily(
        "luthier_pipeline_run_eta_seconds", "Seconds until the slowest shard is done", labels=["collection"]
    )
    for collection in {run.collection for run in runs}:
        own = [run for run in runs if run.collection == collection]
        clips.add_metric([collection], sum(run.total("clips") for run in own))
        if known := [run.eta_s for run in own if run.eta_s is not None]:
            eta.add_metric([collection], max(known))
    yield clips
    yield eta


def serve(address: str, monitor: Monitor, follower: threading.Thread) -> ThreadingHTTPServer:
    """A server of `/metrics` and `/healthz` on host:port; it is healthy while the follower lives."""
    registry = CollectorRegistry()
    registry.register(monitor)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(200 if follower.is_alive() else 503, "text/plain", b"ok\n")
            elif self.path.partition("?")[0] == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            else:
                self._answer(404, "text/plain", b"/metrics or /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not worth a line."""

    host, _, port = address.rpartition(":")
    return ThreadingHTTPServer((host.strip("[]") or "127.0.0.1", int(port)), Handler)
