"""A real server on loopback: bugs, request ids, reflection, metrics, graceful stop, and services declared wrongly."""

import gc
import re
import threading
import urllib.request
import weakref
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.server.v1.server_pb2 import GetConfigurationRequest
from luthier.server.v1.server_pb2_grpc import ServerServiceStub
from luthier_kit.rpc import (
    Channel,
    Configuration,
    DataLoss,
    Internal,
    InvalidRequest,
    Server,
    Service,
    ServiceSettings,
    SettingsError,
    request_id,
    serve_metrics,
)
from tests.kit.rpc.serving import CONTRACT, NAME, Analysis, analyze, cut, wait_until


def test_a_service_knows_its_name_and_domain_from_its_contract() -> None:
    service = Service(CONTRACT, Analysis())
    assert (service.name, service.domain) == (NAME, "analysis")


def test_a_method_that_the_contract_does_not_have_cannot_be_admitted_apart() -> None:
    with pytest.raises(ValueError, match=r"AnalysisService has no method wait_until"):
        Service(CONTRACT, Analysis(), light=[wait_until])


def test_a_bug_says_internal_and_nothing_more(channel: Channel, servicer: Analysis) -> None:
    servicer.raises = RuntimeError("secret detail")
    with pytest.raises(Internal) as caught:
        analyze(channel)
    assert (str(caught.value), caught.value.reason) == ("internal error", "INTERNAL")


def test_what_a_refused_method_held_is_freed_without_the_collector(channel: Channel, servicer: Analysis) -> None:
    class Large: ...

    held: list[weakref.ref[Large]] = []

    def refuse() -> None:
        large = Large()
        held.append(weakref.ref(large))
        raise InvalidRequest("no")

    servicer.before = refuse
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(InvalidRequest):
                analyze(channel)
        wait_until(lambda: not any(one() for one in held))
    finally:
        gc.enable()


def test_the_request_id_travels_through_the_call(channel: Channel, servicer: Analysis) -> None:
    token = request_id.set("song-17")
    analyze(channel)
    request_id.reset(token)
    assert servicer.request_ids == ["song-17"]


def test_reflection_names_the_service(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask])))
    names = {service.name for service in answer.list_services_response.service}
    assert {NAME, "luthier.server.v1.ServerService"} < names


def metrics() -> str:
    port = serve_metrics("127.0.0.1:0")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        return str(page.read().decode())


@pytest.mark.parametrize(("raises", "code"), [(DataLoss("gone"), "DATA_LOSS"), (None, "DEADLINE_EXCEEDED")])
def test_a_call_that_its_caller_left_counts_as_what_became_of_it(
    channel: Channel, servicer: Analysis, raises: Exception | None, code: str
) -> None:
    def counted() -> float:
        labels = f'rpc_grpc_status_code="{code}",rpc_method="CutClips",rpc_service="{NAME}"'
        found = re.search(re.escape(f"rpc_server_duration_seconds_count{{{labels}}}") + " (.+)", metrics())
        return float(found[1]) if found else 0

    before, servicer.raises = counted(), raises
    with grpc.insecure_channel(channel.target) as plain, pytest.raises(grpc.RpcError):
        cut(plain, timeout=0.3)
    wait_until(lambda: servicer.begun)
    assert counted() == before
    servicer.release.set()
    wait_until(lambda: counted() == before + 1)


def test_metrics_count_calls_by_method_and_status(channel: Channel) -> None:
    analyze(channel)
    text = metrics()
    labels = f'rpc_grpc_status_code="OK",rpc_method="AnalyzeAudio",rpc_service="{NAME}"'
    assert f"rpc_server_duration_seconds_count{{{labels}}}" in text
    assert "luthier_work_waiting" in text


@pytest.mark.parametrize("address", ["127.0.0.1:{taken}", "127.0.0.1", "127.0.0.1:metrics", "127.0.0.1:70000"])
def test_an_address_of_metrics_that_cannot_be_bound_is_named(address: str) -> None:
    address = address.format(taken=serve_metrics("127.0.0.1:0"))
    with pytest.raises(SettingsError, match=f"LUTHIER_METRICS_ADDRESS {address} cannot be bound"):
        serve_metrics(address)


def test_a_graceful_stop_finishes_the_call_that_runs(server: Server, servicer: Analysis) -> None:
    with grpc.insecure_channel(server.address) as plain, ThreadPoolExecutor(1) as pool:
        call = pool.submit(cut, plain)
        wait_until(lambda: servicer.begun)
        threading.Timer(0.5, servicer.release.set).start()
        server.stop()
        assert call.result() == pb.CutClipsResponse()


def test_a_server_says_how_it_is_configured() -> None:
    service = Service(CONTRACT, Analysis(), configuration=Configuration("ab" * 32, ages=True))
    server = Server(service, ServiceSettings(address="127.0.0.1:0"))
    server.start()
    try:
        with Channel(server.address) as channel:
            answer = ServerServiceStub(channel).GetConfiguration(GetConfigurationRequest())
    finally:
        server.stop(grace_s=0)
    assert (answer.digest, answer.ages) == ("ab" * 32, True)


def test_a_server_that_was_given_no_configuration_says_none(channel: Channel) -> None:
    answer = ServerServiceStub(channel).GetConfiguration(GetConfigurationRequest())
    assert (answer.digest, answer.ages) == ("", False)
