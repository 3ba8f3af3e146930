"""Spans reach a collector over OTLP when an endpoint is set; without one nothing is traced."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from luthier_kit.rpc import start_traces, tracing_enabled
from luthier_kit.rpc._tracing import ENDPOINT, server_interceptors

SONG = """
from luthier_kit.rpc import Channel, span, start_traces
from tests.kit.rpc.serving import Analysis, analyze, serving

provider = start_traces("analysis")
with serving(Analysis()) as server, Channel(server.address) as channel, span("song", **{"luthier.path": "a.mid"}):
    assert analyze(channel) == 1
provider.shutdown()
"""

STREAM = """
from luthier.training.v1 import training_pb2 as training, training_pb2_grpc as training_rpc
from luthier_kit.rpc import Channel, start_traces
from tests.kit.rpc.test_channel import Watched, watch, watched_service
from tests.support.services import running

start_traces("training")
watched = Watched()
with running(watched_service(watched)) as address, Channel(address) as channel:
    events = watch(channel)
    assert next(events) is not None and next(events) is not None
    events.close()
    assert watched.gone.wait(5), "the server was not told that its caller went"
"""

HEALTH = """
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from luthier_kit.rpc import start_traces
from tests.kit.rpc.serving import Analysis, serving

start_traces("analysis")
with serving(Analysis()) as server, grpc.insecure_channel(server.address) as channel:
    states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert next(states).status == health_pb2.HealthCheckResponse.SERVING
    states.cancel()
"""


def run(program: str, **environ: str) -> str:
    """What the program told on standard error."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, **environ}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_song_is_one_trace_of_its_client_and_server_spans() -> None:
    got: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    run(SONG, **{ENDPOINT: f"http://127.0.0.1:{collector.server_port}", "OTEL_EXPORTER_OTLP_COMPRESSION": "none"})
    collector.shutdown()
    spans = [s for request in got for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
    names = {resource.value.string_value for request in got for r in request.resource_spans
             for resource in r.resource.attributes if resource.key == "service.name"}  # fmt: skip
    assert names == {"luthier-analysis"}
    assert len(spans) == 3
    assert [s.attributes[0].value.string_value for s in spans if s.name == "song"] == ["a.mid"]
    assert len({span.trace_id for span in spans}) == 1


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert start_traces("analysis") is None
    assert not tracing_enabled()
    assert server_interceptors() == []


def test_a_traced_stream_is_read_and_cancelled_like_any_other() -> None:
    told = run(STREAM, **{ENDPOINT: "http://127.0.0.1:9", "OTEL_BSP_EXPORT_TIMEOUT": "100"})
    assert "detach" not in told


def test_health_is_watched_beside_traces() -> None:
    run(HEALTH, **{ENDPOINT: "http://127.0.0.1:9", "OTEL_BSP_EXPORT_TIMEOUT": "100"})
