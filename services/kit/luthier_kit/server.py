"""Runs one gRPC service: health, reflection, admission, metrics, graceful stop."""

import logging
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from luthier_kit import telemetry, tls, tracing
from luthier_kit.admission import Admission
from luthier_kit.callers import Callers
from luthier_kit.guard import CallGuard
from luthier_kit.ports import METRICS_OFFSET, PORTS
from luthier_kit.settings import ServiceSettings, SettingsError

log = logging.getLogger(__name__)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True)
class Service:
    """What a server serves.

    `light` and `watch` name the methods that are admitted apart from work. `prepare` runs before SERVING, `close` after
    the last call.
    """

    domain: str
    name: str
    register: Callable[[grpc.Server], None]
    light: set[str] = field(default_factory=set)
    watch: set[str] = field(default_factory=set)
    prepare: Callable[[], None] | None = None
    close: Callable[[], None] | None = None


class Server:
    """A running server. `address` is where it listens, `health_address` where it tells its health alone (or "")."""

    def __init__(self, service: Service, settings: ServiceSettings) -> None:
        self.service = service
        self.settings = settings
        admission = Admission(service.name, settings.slots)
        self.guard = CallGuard(
            service.name, service.domain, admission, service.light, service.watch,
            callers=Callers(settings), caller_in_flight=settings.caller_in_flight,
        )  # fmt: skip
        self.grpc = grpc.server(
            ThreadPoolExecutor(admission.threads, thread_name_prefix="call"),
            interceptors=[*tracing.server_interceptors(), self.guard],
            options=_options(settings),
        )
        service.register(self.grpc)
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.grpc)
        reflection.enable_server_reflection((service.name, health.SERVICE_NAME, reflection.SERVICE_NAME), self.grpc)
        self._set_health(NOT_SERVING)
        address = settings.address or f"127.0.0.1:{PORTS[service.domain]}"
        self.address = _bind(address, self._add_port(), "LUTHIER_ADDRESS")
        self.probed, self.health_address = self._health_port(settings.health_address)

    def _add_port(self) -> Callable[[str], int]:
        secret = tls.server_credentials(self.settings.tls_cert, self.settings.tls_key, self.settings.tls_client_ca)
        if secret is None:
            return self.grpc.add_insecure_port
        return lambda address: self.grpc.add_secure_port(address, secret)

    def _health_port(self, address: str) -> tuple[grpc.Server, str]:
        """The same health without TLS or credentials, for probes that speak neither."""
        server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="health"), options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        return server, _bind(address, server.add_insecure_port, "LUTHIER_HEALTH_ADDRESS") if address else ""

    def _set_health(self, status: int) -> None:
        for name in ("", self.service.name):
            self.health.set(name, status)

    def start(self) -> None:
        """Listens, prepares, then says SERVING."""
        self.probed.start()
        self.grpc.start()
        if self.service.prepare:
            self.service.prepare()
        self.guard.ready = True
        self._set_health(SERVING)

    def stop(self, grace_s: float | None = None) -> None:
        """Says NOT_SERVING, lets callers notice, finishes the calls that run, closes."""
        self.health.enter_graceful_shutdown()
        threading.Event().wait(self.settings.drain_s)
        self.grpc.stop(self.settings.grace_s if grace_s is None else grace_s).wait()
        self.probed.stop(None).wait()
        if self.service.close:
            self.service.close()


def _bind(address: str, add_port: Callable[[str], int], env: str) -> str:
    try:
        port = add_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise SettingsError(f"{env} {address} cannot be bound: is the port taken?")
    return f"{address.rpartition(':')[0]}:{port}"


def _options(settings: ServiceSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_connection_age_ms", int(settings.connection_age_s * 1000)),  # clients then look for new Pods
        ("grpc.max_connection_age_grace_ms", int(settings.grace_s * 1000) + 3_600_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_receive_message_length", 4 << 20),
    ]


def serve(service: Service, settings: ServiceSettings) -> None:
    """Serves until SIGTERM or SIGINT, then stops gracefully. Exits with 2 when it cannot start as it is set."""
    telemetry.configure_logging(settings.log_level)
    traces = tracing.start(service.domain)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    default_metrics = f"127.0.0.1:{PORTS[service.domain] + METRICS_OFFSET}"
    try:
        server = Server(service, settings)
        metrics = telemetry.serve_metrics(settings.metrics_address or default_metrics)
        server.start()
    except (SettingsError, OSError) as error:
        log.error("cannot start: %s", error)
        sys.exit(2)
    log.info("serving", extra={"fields": {"address": server.address, "metrics_port": metrics}})
    stop.wait()
    log.info("stopping")
    server.stop()
    if traces:
        traces.shutdown()
