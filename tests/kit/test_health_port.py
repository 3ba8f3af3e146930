"""Probes that speak neither TLS nor tokens ask a port that tells the health and nothing else."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc as rpc
from luthier_kit.rpc import Server, Service, ServiceSettings, SettingsError

NAME = "luthier.analysis.v1.AnalysisService"
SERVING, NOT_SERVING = 1, 2


def service(prepare=None) -> Service:
    return Service(
        "analysis", NAME, lambda s: rpc.add_AnalysisServiceServicer_to_server(rpc.AnalysisServiceServicer(), s),
        prepare=prepare,
    )  # fmt: skip


def status(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status


def test_it_says_not_serving_while_preparing_serving_after_and_not_serving_before_the_stop():
    seen = []
    settings = ServiceSettings(address="127.0.0.1:0", health_address="127.0.0.1:0")
    server = Server(service(prepare=lambda: seen.append(status(server.health_address))), settings)
    server.start()
    seen.append(status(server.health_address))
    server.health.enter_graceful_shutdown()
    seen.append(status(server.health_address))
    server.stop(grace_s=0)
    assert seen == [NOT_SERVING, SERVING, NOT_SERVING]


def test_it_serves_nothing_but_health():
    server = Server(service(), ServiceSettings(address="127.0.0.1:0", health_address="127.0.0.1:0"))
    server.start()
    with grpc.insecure_channel(server.health_address) as channel, pytest.raises(grpc.RpcError) as caught:
        rpc.AnalysisServiceStub(channel).AnalyzeAudio(pb.AnalyzeAudioRequest(), timeout=5)
    server.stop(grace_s=0)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_taken_port_is_named():
    first = Server(service(), ServiceSettings(address="127.0.0.1:0", health_address="127.0.0.1:0"))
    first.start()
    with pytest.raises(SettingsError, match="LUTHIER_HEALTH_ADDRESS 127"):
        Server(service(), ServiceSettings(address="127.0.0.1:0", health_address=first.health_address))
    first.stop(grace_s=0)
