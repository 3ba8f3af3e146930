"""Spans reach a collector over OTLP when an endpoint is set; without one nothing is traced."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from luthier_kit.rpc import ENDPOINT, server_interceptors, start_traces

PROGRAM = """
from luthier.analysis.v1 import analysis_pb2 as pb, analysis_pb2_grpc as rpc

class Listener(rpc.AnalysisServiceServicer):
    def AnalyzeAudio(self, request, context):
        return pb.AnalyzeAudioResponse(duration_s=1)

provider = start_traces("analysis")
register = lambda server: rpc.add_AnalysisServiceServicer_to_server(Listener(), server)
service = Service("analysis", "luthier.analysis.v1.AnalysisService", register)
server = Server(service, ServiceSettings(address="127.0.0.1:0"))
server.start()
with span("song", **{"luthier.path": "a.mid"}):
    client = Channel(server.address, rpc.AnalysisServiceStub)
    assert client.call("AnalyzeAudio", pb.AnalyzeAudioRequest()).duration_s == 1
server.stop(grace_s=1)
provider.shutdown()
"""


def test_a_song_is_one_trace_of_its_client_and_server_spans():
    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    endpoint = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env={**os.environ, **endpoint}, timeout=60)
    collector.shutdown()
    spans = [s for request in got for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
    names = {resource.value.string_value for request in got for r in request.resource_spans
             for resource in r.resource.attributes if resource.key == "service.name"}  # fmt: skip
    assert names == {"luthier-analysis"}
    assert len(spans) == 3
    assert [s.attributes[0].value.string_value for s in spans if s.name == "song"] == ["a.mid"]
    assert len({span.trace_id for span in spans}) == 1


def test_without_an_endpoint_nothing_is_traced(monkeypatch):
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert start_traces("analysis") is None
    assert server_interceptors() == []


STREAM = """
import threading

from luthier.training.v1 import training_pb2 as pb, training_pb2_grpc as rpc

gone = threading.Event()

class Endless(rpc.TrainingServiceServicer):
    def WatchTrainingRun(self, request, context):
        context.add_callback(gone.set)
        while not gone.wait(0.05):
            yield pb.WatchTrainingRunResponse()

start_traces("training")
register = lambda server: rpc.add_TrainingServiceServicer_to_server(Endless(), server)
service = Service("training", "luthier.training.v1.TrainingService", register, watch={"WatchTrainingRun"})
server = Server(service, ServiceSettings(address="127.0.0.1:0"))
server.start()
client = Channel(server.address, rpc.TrainingServiceStub)
watching = client.stream("WatchTrainingRun", pb.WatchTrainingRunRequest())
assert next(watching) is not None and next(watching) is not None
watching.close()
assert gone.wait(5), "the server was not told that its caller went"
server.stop(grace_s=0)
"""


def test_a_traced_stream_is_read_and_cancelled_like_any_other():
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_EXPORT_TIMEOUT": "100"}
    command, environment = [sys.executable, "-c", STREAM], {**os.environ, **endpoint}
    done = subprocess.run(command, check=False, env=environment, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
