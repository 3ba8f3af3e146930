"""The series that exist, with their labels: what the services' code declares, and what the monitor really serves."""

import ast
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from luthier.pipeline.v1.pipeline_pb2 import PART_STATE_RUNNING, PartProgress, ShardProgress
from luthier_kit.rpc import PORTS
from luthier_pipeline.monitor import Monitor, MonitorSettings
from luthier_pipeline.run_status import part_series
from tests.operations.queries import ROOT
from tests.support.services import temp_store

SUFFIXES = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_count", "_sum")}
PROCESS = ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds")
TARGET = {"job", "namespace", "instance"}  # set by Prometheus itself or by its configuration


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
    """What the monitor serves while one shard runs."""
    shard = ShardProgress(
        shard=0, shards=1, songs=1, waiting=1, in_flight=1, rendered=1, failed=1, clips=1, eta_s=5.0
    )  # fmt: skip
    part = PartProgress(
        collection="c", run="r", part="0-of-1", state=PART_STATE_RUNNING, corpus_songs=1, need_render=1, shard=shard
    )
    part.began_at.GetCurrentTime()
    part.updated_at.GetCurrentTime()
    with tempfile.TemporaryDirectory() as folder, temp_store(Path(folder)) as store:
        part_series(store, part.collection, part.run, part.part).append(part)
        monitor = Monitor(lambda: store, MonitorSettings())
        monitor.read()
        samples = [sample for metric in monitor.collect() for sample in metric.samples]
    return {sample.name: {*sample.labels, *TARGET} for sample in samples}


def _declarations(tree: ast.Module) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Calls like `Gauge("name", "text", ("label",))`."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SUFFIXES):
            continue
        if len(node.args) > 1:
            name, _, *labels = node.args
            yield node.func.id, ast.literal_eval(name), ast.literal_eval(labels[0]) if labels else ()
