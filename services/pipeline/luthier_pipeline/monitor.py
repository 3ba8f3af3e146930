"""monitor: live runs as Prometheus metrics, read from what the Pods of the pipeline publish into the store.

At zero render workers nobody but the pipeline knows what waits, so KEDA scales from 0 on
`luthier_pipeline_work_waiting`. The number is there whenever the store can be read, 0 when nothing runs; while the
store cannot be read it is absent, which means unknown and must never be taken for 0.
"""

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import typer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from luthier.pipeline.v1.pipeline_pb2 import PART_STATE_RUNNING
from luthier_kit.rpc import DataLoss, LuthierError, Settings, load, setting
from luthier_kit.store import Store, open_store
from luthier_pipeline.console import UsageError
from luthier_pipeline.options import Json, begin
from luthier_pipeline.retention.records import Kept, takedowns, unfinished
from luthier_pipeline.run_status import RunStatus, RunStatusReader, silent_s, state_name, work_waiting

log = logging.getLogger(__name__)
STALE_S: Final = 15.0
"""What was read longer ago is not known any more: a read hangs, or the store is down."""
SONG_STATES: Final = ("waiting", "in_flight", "done", "failed")
SHARD_STATES: Final = ("running", "done", "failed", "interrupted", "silent", "waiting")


@dataclass(frozen=True)
class MonitorSettings(Settings):
    """Settings of the monitor, beside those of the store."""

    metrics_address: str = setting("LUTHIER_METRICS_ADDRESS", default="127.0.0.1:7200", help="host:port of /metrics")
    every_s: float = setting("LUTHIER_MONITOR_EVERY_S", default=3.0, low=0.1, high=60, help="pause between two reads")
    forget_s: float = setting(
        "LUTHIER_MONITOR_FORGET_S", default=3600.0, low=60, high=864000, help="a part silent for longer is gone"
    )


def monitor(ctx: typer.Context, json: Json = False) -> None:
    """Serve what live runs publish as Prometheus metrics on LUTHIER_METRICS_ADDRESS, until it is stopped.

    The store may be down when it starts; settings that are wrong stop it.
    """
    context = begin(ctx, json)
    settings, store = load(MonitorSettings, context.clients.environ), context.clients.store_settings
    watched, stop = Monitor(lambda: open_store(store, prove=False), settings), threading.Event()
    follower = threading.Thread(target=watched.follow, args=(stop,), name="monitor", daemon=True)
    try:
        server = serve(settings.metrics_address, watched, follower)
    except (OSError, ValueError) as error:
        raise UsageError(f"LUTHIER_METRICS_ADDRESS {settings.metrics_address!r} cannot be served: {error}") from None
    follower.start()
    context.say(f"/metrics and /healthz on port {server.server_port}; reads every {settings.every_s:g} s")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        stop.set()  # stopping a server is no failure


class Monitor(Collector):
    """Reads the store in `follow`, and answers scrapes from what it read last."""

    def __init__(self, open_store: Callable[[], Store], settings: MonitorSettings) -> None:
        self.settings = settings
        self._open_store = open_store
        self._reader: RunStatusReader | None = None
        self._runs: list[RunStatus] = []
        self._takedowns: list[Kept] = []
        self._takedowns_known = True  # until a record is corrupt
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
            self._reader = self._reader or RunStatusReader(self._open_store())
            self._runs = self._reader.runs()
            self._read_takedowns(self._reader.store)
            self._read_at, complaint = time.monotonic(), ""
        except LuthierError as error:
            self._read_at, complaint = float("-inf"), f"{error.reason}: {error}"
        if complaint != self._complaint:
            log.warning(complaint or "the store can be read again")
            self._complaint = complaint

    def _read_takedowns(self, store: Store) -> None:
        """One look at the records that are new. One that is corrupt leaves unknown what is unfinished, and no more:
        workers are scaled all the same."""
        last = self._takedowns[-1].number if self._takedowns else 0
        try:
            fresh = takedowns(store).entries(after=last)  # nothing new costs one request
        except DataLoss as error:
            if self._takedowns_known:
                log.warning("records of takedowns cannot be read: %s", error)
            self._takedowns_known = False
            return
        self._takedowns = [*self._takedowns, *(Kept(number, record) for number, record in fresh)]
        self._takedowns_known = True

    def collect(self) -> Iterator[Metric]:
        """The metrics of one scrape."""
        known = time.monotonic() - self._read_at < max(STALE_S, 3 * self.settings.every_s)
        yield GaugeMetricFamily("luthier_monitor_store_up", "1 when the store can be read", value=float(known))
        if not known:
            return
        if self._takedowns_known:
            yield GaugeMetricFamily(
                "luthier_takedowns_unfinished",
                "Takedowns that were begun and have no record that they are done; running ones count",
                value=len(unfinished(self._takedowns)),
            )
        now = time.time()
        heard = [run for run in self._runs if now - run.updated_at < self.settings.forget_s]
        waiting = GaugeMetricFamily(
            "luthier_pipeline_work_waiting",
            "Songs and files of all live runs that still need a render worker; absent = unknown",
            labels=["stage"],
        )
        waiting.add_metric(["rendering"], sum(work_waiting(run, self.settings.forget_s, now) for run in heard))
        yield waiting

        songs: dict[str, Counter[str]] = defaultdict(Counter)
        shards: dict[str, Counter[str]] = defaultdict(Counter)
        clips: Counter[str] = Counter()
        eta_s: dict[str, float] = {}
        for run in heard:
            name = run.collection
            running = [part.shard for part in run.shards if part.state == PART_STATE_RUNNING]
            songs[name] += Counter(
                waiting=run.total(lambda part: part.shard.waiting) + run.unclaimed,
                in_flight=sum(shard.in_flight for shard in running),
                done=run.total(lambda part: part.shard.rendered),
                failed=run.total(lambda part: part.shard.failed),
            )
            shards[name]["waiting"] += run.shard_count - len(run.shards)  # not begun
            for part in run.shards:
                shards[name]["silent" if silent_s(part, now) else state_name(part.state).lower()] += 1
            clips[name] += run.total(lambda part: part.shard.clips)
            if run.eta_s is not None:
                eta_s[name] = max(run.eta_s, eta_s.get(name, 0.0))
        yield _by_state("luthier_pipeline_songs", "Songs of runs by state", SONG_STATES, songs)
        yield _by_state("luthier_pipeline_shards", "Shards of runs by state", SHARD_STATES, shards)
        yield _by_collection("luthier_pipeline_clips", "Clips that runs have made", clips)
        yield _by_collection("luthier_pipeline_run_eta_seconds", "Seconds until the slowest shard is done", eta_s)


def _by_state(name: str, text: str, states: tuple[str, ...], found: Mapping[str, Counter[str]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["collection", "state"])
    for collection, counts in found.items():
        for state in states:
            family.add_metric([collection, state], counts[state])
    return family


def _by_collection(name: str, text: str, found: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["collection"])
    for collection, value in found.items():
        family.add_metric([collection], value)
    return family


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
