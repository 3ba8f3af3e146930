#!/usr/bin/env bash
# A gRPC handler that raises is answered with UNKNOWN. OpenTelemetry's server interceptors, plain and asyncio, unary and streaming, record
# the call with rpc.grpc.status_code 0 (OK) and span status UNSET; the exception is there as an event, twice. A call ended by
# context.abort is recorded right. Most expect a crash to be the first thing that tracing shows as an error.
# Hurt: error rates, alerts and sampling by span status of model servers: a failing plugin or an out-of-memory looks like success.
# Printed:
#   opentelemetry-instrumentation-grpc 0.66b2, grpc.server: raise, client saw UNKNOWN, span: code 0, UNSET
#   opentelemetry-instrumentation-grpc 0.66b2, grpc.server: raise in a stream, client saw UNKNOWN, span: code 0, UNSET
#   opentelemetry-instrumentation-grpc 0.66b2, grpc.server: abort, client saw INTERNAL, span: code 13, ERROR
#   opentelemetry-instrumentation-grpc 0.66b2, grpc.aio.server: raise, client saw UNKNOWN, span: code 0, UNSET
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get grpcio==1.85.3 opentelemetry-sdk==1.45.2 opentelemetry-instrumentation-grpc==0.66b2
cd "$t" && v/bin/python -W ignore - <<'PY'
import asyncio, grpc, logging, time
from concurrent import futures
from importlib.metadata import version
from opentelemetry.instrumentation.grpc import aio_server_interceptor, server_interceptor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
logging.disable(logging.CRITICAL)
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
def render(request, context):
    raise MemoryError("no room for the plugin")
def render_stream(request, context):
    yield b"first block"
    raise MemoryError("no room for the plugin")
def refuse(request, context):
    context.abort(grpc.StatusCode.INTERNAL, "no room for the plugin")
async def render_later(request, context):
    raise MemoryError("no room for the plugin")
class Handlers(grpc.GenericRpcHandler):
    def __init__(self, **handlers):
        self.handlers = handlers
    def service(self, call):
        name = call.method.rsplit("/", 1)[1]
        wrap = grpc.unary_stream_rpc_method_handler if name == "stream" else grpc.unary_unary_rpc_method_handler
        return wrap(self.handlers[name])
def call(port, method):
    spans.clear()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            list(channel.unary_stream(f"/render/{method}")(b""))
        except grpc.RpcError as error:
            seen = error.code().name
    deadline = time.monotonic() + 10
    while not spans.get_finished_spans() and time.monotonic() < deadline:
        time.sleep(0.05)
    (span,) = spans.get_finished_spans()
    return seen, span.attributes["rpc.grpc.status_code"], span.status.status_code.name
async def call_aio():
    server = grpc.aio.server(interceptors=[aio_server_interceptor(provider)])
    server.add_generic_rpc_handlers((Handlers(unary=render_later),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found = await asyncio.to_thread(call, port, "unary")
    await server.stop(1)
    return found
server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[server_interceptor(provider)])
server.add_generic_rpc_handlers((Handlers(unary=render, stream=render_stream, abort=refuse),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
found = {f"grpc.server: {name}": call(port, method)
         for name, method in (("raise", "unary"), ("raise in a stream", "stream"), ("abort", "abort"))}
server.stop(1).wait()
found["grpc.aio.server: raise"] = asyncio.run(call_aio())
for case, (seen, code, status) in found.items():
    name = f"opentelemetry-instrumentation-grpc {version('opentelemetry-instrumentation-grpc')}"
    print(f"{name}, {case}, client saw {seen}, span: code {code}, {status}", flush=True)
assert list(found.values()) == [("UNKNOWN", 0, "UNSET")] * 2 + [("INTERNAL", 13, "ERROR"), ("UNKNOWN", 0, "UNSET")], found
PY
