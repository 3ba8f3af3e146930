"""Runs one gRPC service: health, reflection, admission, metrics, graceful stop, and the one way to start."""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from luthier.server.v1 import server_pb2, server_pb2_grpc
from luthier_kit.rpc import _telemetry as telemetry
from luthier_kit.rpc import _tls as tls
from luthier_kit.rpc import _tracing as tracing
from luthier_kit.rpc._admission import Admission
from luthier_kit.rpc._callers import Callers
from luthier_kit.rpc._contracts import METRICS_OFFSET, PORTS
from luthier_kit.rpc._credentials import Credentials
from luthier_kit.rpc._dispatch import Dispatcher, GuardedReflection
from luthier_kit.rpc._errors import LuthierError
from luthier_kit.rpc._settings import ServiceSettings, SettingsError, load

log = logging.getLogger(__name__)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
MAX_REQUEST_BYTES = 4 << 20
MAX_STREAMS_PER_CONNECTION = 1024
MAX_PROBES_PER_CONNECTION = 16
MAX_SOCKET_BYTES = 107  # of a path, unix(7)
STOPPED, FAILED, WRONG_SETTINGS = 0, 1, 2
"""Exit codes of `main`."""
S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")


@dataclass(frozen=True)
class Configuration:
    """What decides a server's answers beside requests and stored files: the digest of stage versions, tools, models and
    settings. `ages`: some answers come from sources that change by themselves."""

    digest: str = ""
    ages: bool = False


class _About(server_pb2_grpc.ServerServiceServicer):
    """What a server says of itself."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def GetConfiguration(
        self, _request: server_pb2.GetConfigurationRequest, _: grpc.ServicerContext
    ) -> server_pb2.GetConfigurationResponse:
        return server_pb2.GetConfigurationResponse(digest=self._configuration.digest, ages=self._configuration.ages)


ABOUT = server_pb2.DESCRIPTOR.services_by_name["ServerService"]


class Front(Protocol):
    """What a service serves beside gRPC and answers by calls of its own gRPC server, such as HTTP.

    `start` comes when the gRPC server takes calls, `stop` after its last one. `target` is where this process alone
    reaches it, for `grpc.insecure_channel`: without TLS or a certificate, so that only tokens name callers there. A
    call says whom it is for in its metadata: `authorization`, and the address of the client (`forwarded`).
    """

    def start(self, target: str) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Service:
    """What a server serves.

    `contract` is the service of the generated module (`rendering_pb2.DESCRIPTOR.services_by_name[…]`), `servicer` has
    its methods. `light` and `watch` are the servicer's methods that are admitted apart from work: quick reads, and
    streams that wait. `scheduled` are those whose work the service schedules itself, at most `scheduled_calls` at once,
    working, waiting or being looked up: they begin at once, and the service says when it is full and tells its
    `Workload`. `prepare` runs before SERVING, `close` after the last call. `front` is served beside gRPC.
    `configuration` is what the server says of itself; a service that says none is asked everything anew.
    """

    contract: ServiceDescriptor
    servicer: object
    light: Collection[Callable[..., Any]] = ()
    watch: Collection[Callable[..., Any]] = ()
    scheduled: Collection[Callable[..., Any]] = ()
    scheduled_calls: int = 0
    prepare: Callable[[], None] | None = None
    close: Callable[[], None] | None = None
    front: Front | None = None
    configuration: Configuration = Configuration()

    def __post_init__(self) -> None:
        for method in (*self.light, *self.watch, *self.scheduled):
            if method.__name__ not in self.contract.methods_by_name:
                raise ValueError(f"{self.name} has no method {method.__name__}")

    @property
    def name(self) -> str:
        """`luthier.rendering.v1.RenderingService`."""
        return str(self.contract.full_name)

    @property
    def domain(self) -> str:
        """`rendering`."""
        return self.name.split(".")[1]


class Server:
    """A running server. `address` is where it listens, `health_address` where it serves health alone (or "").

    Calls are taken by an event loop in a thread of its own and run in other threads: a server that is full, or whose
    callers send nothing, still answers for its health, and a loop that is stuck does not.
    """

    def __init__(self, service: Service, settings: ServiceSettings) -> None:
        self.service = service
        self.settings = settings
        light, watch, scheduled = (
            {method.__name__ for method in methods} for methods in (service.light, service.watch, service.scheduled)
        )
        admission = Admission(service.name, settings.slots, settings.caller_in_flight, service.scheduled_calls)
        bound = settings.caller_in_flight // 2 or 1  # a client sends two calls for each slot that it is told of
        callers, slots = Callers(settings), min(settings.slots, bound) if settings.caller_in_flight else settings.slots
        self.dispatcher = Dispatcher(
            service.contract, service.servicer, admission, callers, domain=service.domain,
            light=light, watch=watch, slots_told=slots, scheduled=scheduled,
        )  # fmt: skip
        self._about = Dispatcher(
            ABOUT, _About(service.configuration), admission, callers, domain=service.domain,
            light=set(ABOUT.methods_by_name), watch=set(), slots_told=slots,
        )  # fmt: skip
        self._secret = tls.server_credentials(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._thread.start()
        try:
            self._in_loop(self._bind())
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise

    async def _bind(self) -> None:
        service, settings = self.service, self.settings
        self.health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # set below the module's version check
        self.grpc = grpc.aio.server(
            handlers=[self.dispatcher, self._about],
            interceptors=tracing.server_interceptors(),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_connection_age_ms", int(settings.connection_age_s * 1000)),  # clients then look for new Pods
                ("grpc.max_connection_age_grace_ms", int(settings.grace_s * 1000) + 3_600_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.grpc)
        names = (service.name, self._about.name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(GuardedReflection(names, self.dispatcher), self.grpc)
        await self._set_health(NOT_SERVING)
        secret = self._secret
        self.address = _bound(
            settings.address or f"127.0.0.1:{PORTS[service.domain]}",
            self.grpc.add_insecure_port if secret is None else lambda at: self.grpc.add_secure_port(at, secret),
            "LUTHIER_ADDRESS",
        )
        # for the front alone: others cannot enter the folder
        self._own = tempfile.TemporaryDirectory(prefix="luthier-") if service.front else None
        self.own_target = ""
        if self._own:
            path = f"{self._own.name}/grpc"
            if len(path.encode()) > MAX_SOCKET_BYTES:
                raise SettingsError(
                    f"TMPDIR is too long: {path} must have at most {MAX_SOCKET_BYTES} bytes as a socket"
                )
            self.own_target = f"unix:{path}"
            self.grpc.add_insecure_port(self.own_target)
        # the same health without TLS or credentials, for probes that speak neither
        self._probed = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", MAX_PROBES_PER_CONNECTION)]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._probed)
        self.health_address = ""
        if settings.health_address:
            self.health_address = _bound(
                settings.health_address, self._probed.add_insecure_port, "LUTHIER_HEALTH_ADDRESS"
            )

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", self.service.name):
            await self.health.set(name, status)

    def start(self) -> None:
        """Listens, prepares, then reports SERVING."""
        self._in_loop(self._probed.start())
        self._in_loop(self.grpc.start())
        if self.service.front:
            self.service.front.start(self.own_target)
        if self.service.prepare:
            self.service.prepare()
        self.dispatcher.ready = self._about.ready = True
        self._in_loop(self._set_health(SERVING))

    def announce_stop(self) -> None:
        """Reports NOT_SERVING for good, while calls are still taken."""
        self._in_loop(self.health.enter_graceful_shutdown())

    def stop(self, grace_s: float | None = None) -> None:
        """Reports NOT_SERVING, waits `drain_s` so that callers notice, finishes the calls that run, closes.

        A second stop does nothing.
        """
        if not self._thread.is_alive():
            return
        self.announce_stop()
        threading.Event().wait(self.settings.drain_s)
        self._in_loop(self.grpc.stop(self.settings.grace_s if grace_s is None else grace_s))
        self._in_loop(self._probed.stop(None))
        self._in_loop(self.dispatcher.close())
        self._in_loop(self._about.close())
        if self.service.front:
            self.service.front.stop()
        if self._own:
            self._own.cleanup()
        if self.service.close:
            self.service.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def _bound(address: str, add_port: Callable[[str], int], env: str) -> str:
    try:
        port = add_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise SettingsError(f"{env} {address} cannot be bound: is the port taken?")
    return f"{address.rpartition(':')[0]}:{port}"


class StopSignals:
    """SIGTERM and SIGINT, from now on: `wait` returns when one has come. For the main thread.

    The interpreter writes them to a socket where they arrive. A handler that sets an Event is run by the main thread:
    it does not wake it where the signal comes just before it begins to wait, and waits for itself where it is about to.
    """

    def __init__(self) -> None:
        self._come, self._goes = socket.socketpair()
        self._goes.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._goes.fileno(), warn_on_full_buffer=False)

    def wait(self) -> None:
        """Returns at once where one came since the last wait."""
        while not {signal.SIGTERM, signal.SIGINT} & set(self._come.recv(4096)):
            pass


def main(settings_type: type[S], build: Callable[[S], Service], environ: Mapping[str, str] = os.environ) -> int:
    """Starts a service, serves until SIGTERM or SIGINT, drains, and returns the exit code.

    0: stopped as asked. 1: it could not start for another reason than its settings (the store does not answer or
    refuses the credentials; a file system error; a bug). 2: settings are missing or wrong, or the store that they name
    cannot be used; each fault has a line that names the variable and, for files, the path. `build` runs after the
    settings were checked: a service should import slow modules inside it.
    """
    telemetry.configure_logging("INFO")
    try:
        settings = _checked_settings(settings_type, environ)
        telemetry.configure_logging(settings.log_level)
        service = build(settings)
        traces = tracing.start_traces(service.domain)
        server = Server(service, settings)
        stop = StopSignals()
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
    """Once as JSON for machines, once as plain lines for people at a terminal."""
    log.error("cannot start: %s", error)
    sys.stderr.write(f"cannot start:\n{error}\n")
    return code


def _checked_settings(settings_type: type[S], environ: Mapping[str, str]) -> S:
    """The settings, once the files that they name were read, before anything is built. SettingsError has all faults."""
    faults: list[str] = []

    def check(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except SettingsError as error:
            faults.extend(line for line in str(error).splitlines() if line not in faults)
            return None

    settings = check(lambda: load(settings_type, environ))
    check(lambda: Credentials(environ))
    known = check(lambda: load(ServiceSettings, environ))  # that part may be fine where the whole is not
    if known is not None:
        check(lambda: tls.server_credentials(known.tls_cert, known.tls_key, known.tls_client_ca))
        check(lambda: Callers(known))
    if settings is None or faults:
        raise SettingsError("\n".join(faults))
    return settings
