"""Health on the service's own port, and on one of its own for probes that speak neither TLS nor tokens."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from luthier_kit.rpc import Server, ServiceSettings, SettingsError
from tests.kit.rpc.serving import NAME, Analysis, analyze, service

SERVING, NOT_SERVING = 1, 2


def status(address: str, name: str = "") -> int:
    with grpc.insecure_channel(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
    return int(answer.status)


def test_health_says_serving_and_not_serving_before_the_stop(server: Server) -> None:
    assert (status(server.address, NAME), status(server.address)) == (SERVING, SERVING)
    server.announce_stop()
    assert (status(server.address, NAME), status(server.address)) == (NOT_SERVING, NOT_SERVING)


def test_the_health_port_says_not_serving_while_preparing_serving_after_and_not_serving_before_the_stop() -> None:
    seen: list[int] = []
    settings = ServiceSettings(address="127.0.0.1:0", health_address="127.0.0.1:0")
    server = Server(service(Analysis(), prepare=lambda: seen.append(status(server.health_address))), settings)
    server.start()
    seen.append(status(server.health_address))
    server.announce_stop()
    seen.append(status(server.health_address))
    server.stop(grace_s=0)
    assert seen == [NOT_SERVING, SERVING, NOT_SERVING]


def test_the_health_port_serves_nothing_but_health() -> None:
    server = Server(service(Analysis()), ServiceSettings(address="127.0.0.1:0", health_address="127.0.0.1:0"))
    server.start()
    with grpc.insecure_channel(server.health_address) as channel, pytest.raises(grpc.RpcError) as caught:
        analyze(channel)
    server.stop(grace_s=0)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_taken_port_is_named() -> None:
    first = Server(service(Analysis()), ServiceSettings(address="127.0.0.1:0", health_address="127.0.0.1:0"))
    first.start()
    with pytest.raises(SettingsError, match="LUTHIER_HEALTH_ADDRESS 127"):
        Server(service(Analysis()), ServiceSettings(address="127.0.0.1:0", health_address=first.health_address))
    first.stop(grace_s=0)
