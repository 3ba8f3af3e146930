"""Runs one gRPC service: health, reflection, admission, metrics, graceful stop, and the one way to start."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from luthier_kit.rpc import _telemetry as telemetry
from luthier_kit.rpc import _tls as tls
from luthier_kit.rpc import _tracing as tracing
from luthier_kit.rpc._admission import Admission
from luthier_kit.rpc._callers import Callers
from luthier_kit.rpc._contracts import METRICS_OFFSET, PORTS
from luthier_kit.rpc._credentials import Credentials
from luthier_kit.rpc._errors import LuthierError
from luthier_kit.rpc._guard import CallGuard
from luthier_kit.rpc._settings import ServiceSettings, SettingsError, load

log = logging.getLogger(__name__)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
STOPPED, FAILED, WRONG_SETTINGS = 0, 1, 2
"""Exit codes of `main`."""
S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """What a server serves.

    `contract` is the service of the generated module (`rendering_pb2.DESCRIPTOR.services_by_name[…]`), `add` the
    generated `add_…Servicer_to_server`. `light` and `watch` are the servicer's methods that are admitted apart from
    work: quick reads, and streams that wait. `prepare` runs before SERVING, `close` after the last call.
    """

    contract: ServiceDescriptor
    add: Callable[[Any, grpc.Server], None]
    servicer: object
    light: Collection[Callable[..., Any]] = ()
    watch: Collection[Callable[..., Any]] = ()
    prepare: Callable[[], None] | None = None
    close: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        """`luthier.rendering.v1.RenderingService`."""
        return str(self.contract.full_name)

    @property
    def domain(self) -> str:
        """`rendering`."""
        return self.name.split(".")[1]


class Server:
    """A running server. `address` is where it listens, `health_address` where it tells its health alone (or "")."""

    def __init__(self, service: Service, settings: ServiceSettings) -> None:
        self.service = service
        self.settings = settings
        admission = Admission(service.name, settings.slots)
        light, watch = ({method.__name__ for method in methods} for methods in (service.light, service.watch))
        self.guard = CallGuard(
            service.name, service.domain, admission, light, watch,
            callers=Callers(settings), caller_in_flight=settings.caller_in_flight,
        )  # fmt: skip
        self.grpc = grpc.server(
            ThreadPoolExecutor(admission.threads, thread_name_prefix="call"),
            interceptors=[*tracing.server_interceptors(), self.guard],
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_connection_age_ms", int(settings.connection_age_s * 1000)),  # clients then look for new Pods
                ("grpc.max_connection_age_grace_ms", int(settings.grace_s * 1000) + 3_600_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.max_receive_message_length", 4 << 20),
            ],
        )
        service.add(service.servicer, self.grpc)
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.grpc)
        reflection.enable_server_reflection((service.name, health.SERVICE_NAME, reflection.SERVICE_NAME), self.grpc)
        self._set_health(NOT_SERVING)
        secret = tls.server_credentials(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self.address = _bind(
            settings.address or f"127.0.0.1:{PORTS[service.domain]}",
            self.grpc.add_insecure_port if secret is None else lambda at: self.grpc.add_secure_port(at, secret),
            "LUTHIER_ADDRESS",
        )
        # the same health without TLS or credentials, for probes that speak neither
        self.probed = grpc.server(
            ThreadPoolExecutor(4, thread_name_prefix="health"), options=[("grpc.so_reuseport", 0)]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.probed)
        self.health_address = (
            _bind(settings.health_address, self.probed.add_insecure_port, "LUTHIER_HEALTH_ADDRESS")
            if settings.health_address
            else ""
        )

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


def main(settings_type: type[S], build: Callable[[S], Service], environ: Mapping[str, str] = os.environ) -> int:
    """Starts a service, serves until SIGTERM or SIGINT, drains, and answers with the exit code.

    0: stopped as asked. 1: it could not start or went down for another reason than its settings (the store does not
    answer or refuses the credentials; a bug). 2: settings are missing or wrong, or the store they name is not one that
    Luthier can use; every fault has a line that names the variable and, for files, the path. `build` runs after the
    settings were read, so that a service may import what is slow in there.
    """
    telemetry.configure_logging("INFO")
    try:
        settings = _checked_settings(settings_type, environ)
        telemetry.configure_logging(settings.log_level)
        service = build(settings)
        traces = tracing.start_traces(service.domain)
        server = Server(service, settings)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        metrics = telemetry.serve_metrics(
            settings.metrics_address or f"127.0.0.1:{PORTS[service.domain] + METRICS_OFFSET}"
        )
        server.start()
    except SettingsError as error:
        return _refuse(error, WRONG_SETTINGS)
    except LuthierError as error:
        return _refuse(error, WRONG_SETTINGS if error.permanent else FAILED)
    except OSError as error:
        return _refuse(error, FAILED)
    log.info("serving", extra={"fields": {"address": server.address, "metrics_port": metrics}})
    stop.wait()
    log.info("stopping")
    server.stop()
    if traces:
        traces.shutdown()
    return STOPPED


def _refuse(error: Exception, code: int) -> int:
    """For people at a terminal, where one line for each fault is easier to read than JSON."""
    log.error("cannot start: %s", error)
    sys.stderr.write(f"cannot start:\n{error}\n")
    return code


def _checked_settings(settings_type: type[S], environ: Mapping[str, str]) -> S:
    """The settings, once the files that they name were read, before anything is built. SettingsError has all faults."""
    faults = []

    def check(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except SettingsError as error:
            faults.append(str(error))
            return None

    settings = check(lambda: load(settings_type, environ))
    check(lambda: Credentials(environ))
    if settings is not None:
        known = settings
        check(lambda: tls.server_credentials(known.tls_cert, known.tls_key, known.tls_client_ca))
        check(lambda: Callers(known))
    if settings is None or faults:
        raise SettingsError("\n".join(faults))
    return settings
