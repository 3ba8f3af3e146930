"""The metrics that Luthier's code declares, read from the code: {series: its labels}."""

import ast
import functools
from collections.abc import Iterator

from luthier_kit.ports import PORTS
from tests.operations.queries import ROOT

SUFFIXES = {
    "Counter": ("_total",),
    "CounterMetricFamily": ("_total",),
    "Gauge": ("",),
    "GaugeMetricFamily": ("",),
    "Histogram": ("_bucket", "_count", "_sum"),
}
PROCESS = ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds")
TARGET = {"job", "namespace", "instance"}  # what Prometheus sets itself, or is told to


@functools.cache
def declared() -> dict[str, set[str]]:
    """Series and labels of all services, of prometheus_client's process collector, and `up`."""
    found = {name: set(TARGET) for name in (*PROCESS, "up")}
    for package in ("kit", "pipeline", *PORTS):
        for path in (ROOT / "services" / package / f"luthier_{package}").rglob("*.py"):
            for kind, name, labels in _declarations(ast.parse(path.read_text())):
                for suffix in SUFFIXES[kind]:
                    series = name if suffix == "_total" and name.endswith(suffix) else name + suffix
                    found[series] = {*labels, *TARGET, *({"le"} if suffix == "_bucket" else ())}
    return found


def _declarations(tree: ast.Module) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Calls like `Gauge("name", "text", ("label",))`; labels may also be `labels=` or `labelnames=`."""
    for node in ast.walk(tree):
        kind = getattr(getattr(node, "func", None), "id", getattr(getattr(node, "func", None), "attr", ""))
        if not isinstance(node, ast.Call) or kind not in SUFFIXES or not node.args:
            continue
        named = [keyword.value for keyword in node.keywords if keyword.arg in ("labels", "labelnames")]
        labels = next(iter([*named, *node.args[2:3]]), None)
        if isinstance(node.args[0], ast.Constant):
            yield kind, node.args[0].value, tuple(ast.literal_eval(labels)) if labels else ()
