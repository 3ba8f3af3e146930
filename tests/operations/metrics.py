"""The series that there are, with their labels: what the services' code declares, and what the monitor really says."""

import ast
import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from luthier_kit.ports import PORTS
from luthier_kit.testing import temp_store
from luthier_pipeline.diary import RUNNING, series_of
from luthier_pipeline.monitor import Monitor, MonitorSettings
from tests.operations.queries import ROOT

SUFFIXES = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_count", "_sum")}
PROCESS = ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds")
TARGET = {"job", "namespace", "instance"}  # what Prometheus sets itself, or is told to


@functools.cache
def declared() -> dict[str, set[str]]:
    """Series and labels of all services, of the monitor, of prometheus_client's process collector, and `up`."""
    found = {name: set(TARGET) for name in (*PROCESS, "up")} | monitored()
    for package in ("kit", *PORTS):
        for path in (ROOT / "services" / package / f"luthier_{package}").rglob("*.py"):
            for kind, name, labels in _declarations(ast.parse(path.read_text())):
                for suffix in SUFFIXES[kind]:
                    found[name + suffix] = {*labels, *TARGET, *({"le"} if suffix == "_bucket" else ())}
    return found


def monitored() -> dict[str, set[str]]:
    """What the monitor says while one shard runs."""
    shard = {
        "collection": "c",
        "run": "r",
        "part": "0-of-1",
        "shard": 0,
        "shards": 1,
        "state": RUNNING,
        "at": time.time(),
    }
    counts = dict.fromkeys(
        ("corpus_songs", "songs", "waiting", "in_flight", "rendered", "failed", "clips", "need_render"), 1
    )
    with tempfile.TemporaryDirectory() as folder, temp_store(Path(folder)) as store:
        store.append(series_of("c", "r", "0-of-1"), {**shard, **counts, "eta_s": 5.0})
        monitor = Monitor(lambda: store, MonitorSettings())
        monitor.read()
        samples = [sample for metric in monitor.collect() for sample in metric.samples]
    return {sample.name: {*sample.labels, *TARGET} for sample in samples}


def _declarations(tree: ast.Module) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Calls like `Gauge("name", "text", ("label",))`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in SUFFIXES and len(node.args) > 1:
            name, _, *labels = node.args
            yield node.func.id, ast.literal_eval(name), ast.literal_eval(labels[0]) if labels else ()
