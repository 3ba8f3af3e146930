"""OpenTelemetry traces: off until OTEL_EXPORTER_OTLP_ENDPOINT is set, then every call is a span.

Names follow the semantic conventions; sampling, headers and resource attributes OpenTelemetry's own OTEL_… variables.
OpenTelemetry is imported when it is on: each `luthier` command would wait a fifth of a second for it.
"""

import logging
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def tracing_enabled() -> bool:
    """True when an endpoint is set."""
    return bool(os.environ.get(ENDPOINT))


def start_traces(domain: str) -> "TracerProvider | None":
    """Sends the spans of this process to the collector under the service name `luthier-<domain>`."""
    if not tracing_enabled():
        return None
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", f"luthier-{domain}")})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def flush_traces(provider: "TracerProvider", within_s: float) -> None:
    """Sends what is not sent yet; the exporter's own time-outs may be longer than anybody wants to wait."""
    sender = threading.Thread(target=provider.force_flush, daemon=True)
    sender.start()
    sender.join(within_s)


def span(name: str, **attributes: str) -> AbstractContextManager[object]:
    """Calls made within are one trace, which begins here. Does nothing while no endpoint is set."""
    if not tracing_enabled():
        return nullcontext()
    from opentelemetry import trace

    return trace.get_tracer(__name__).start_as_current_span(name, attributes=attributes)


def server_interceptors() -> "list[grpc.aio.ServerInterceptor[Any, Any]]":
    """A span for each call that is served."""
    if not tracing_enabled():
        return []
    from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters

    # a stream that its caller leaves is closed in another context than it began in: nothing to tell anybody
    logging.getLogger("opentelemetry.context").setLevel(logging.CRITICAL)
    health = filters.negate(filters.health_check())  # and its Watch is no generator
    return [aio_server_interceptor(filter_=health)]  # type: ignore[no-untyped-call]


def traced(channel: grpc.Channel) -> grpc.Channel:
    """A span for each call that is made; the server's spans continue its trace."""
    if not tracing_enabled():
        return channel
    from opentelemetry.instrumentation.grpc import client_interceptor
    from opentelemetry.instrumentation.grpc.grpcext import intercept_channel

    spans: grpc.Channel = intercept_channel(channel, client_interceptor())  # type: ignore[no-untyped-call]
    return spans
