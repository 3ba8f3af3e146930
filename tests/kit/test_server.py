"""A real server and a real client on loopback: statuses, admission, request ids, graceful stop."""

import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc as rpc
from luthier_kit import errors
from luthier_kit.rpc import Admission, Channel, Server, Service, ServiceSettings, request_id, serve_metrics

NAME = "luthier.analysis.v1.AnalysisService"


class Listener(rpc.AnalysisServiceServicer):
    """Raises what it is told to, or holds a slot until it is released."""

    def __init__(self) -> None:
        self.raises: BaseException | None = None
        self.release = threading.Event()
        self.seen: list[str] = []
        self.running = 0

    def AnalyzeAudio(self, request, context):
        self.seen.append(request_id.get())
        if self.raises:
            raise self.raises
        return pb.AnalyzeAudioResponse(duration_s=1)

    def CutClips(self, request, context):
        self.running += 1
        self.release.wait(20)
        return pb.CutClipsResponse()


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def server(listener):
    service = Service(
        "analysis",
        NAME,
        lambda s: rpc.add_AnalysisServiceServicer_to_server(listener, s),
        light={"AnalyzeAudio"},
    )
    server = Server(service, ServiceSettings(address="127.0.0.1:0", slots=2, grace_s=5))
    server.start()
    yield server
    listener.release.set()
    server.stop(grace_s=0)


@pytest.fixture
def client(server):
    client = Channel(server.address, rpc.AnalysisServiceStub)
    yield client
    client.close()


def wait_until(true, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


TABLE = [
    (errors.InvalidRequest(violations=[("steps", "must be between 1 and 1000, got 0")]), "INVALID_ARGUMENT"),
    (errors.NotFound("no such model", reason="MODEL_NOT_FOUND"), "NOT_FOUND"),
    (errors.FailedPrecondition("differs", reason="ARTIFACT_DIGEST_MISMATCH"), "FAILED_PRECONDITION"),
    (errors.DataLoss("corrupt"), "DATA_LOSS"),
    (errors.PermissionDenied("bucket", reason="BUCKET_NOT_ALLOWED"), "PERMISSION_DENIED"),
    (errors.Unauthenticated("no token"), "UNAUTHENTICATED"),
    (errors.QuotaExceeded("too much"), "RESOURCE_EXHAUSTED"),
    (errors.Aborted("edited"), "ABORTED"),
    (errors.Unavailable("store is down", reason="STORE_DOWN", retry_after_s=2.5), "UNAVAILABLE"),
]


@pytest.mark.parametrize(("error", "status"), TABLE, ids=[row[1] for row in TABLE])
def test_each_error_has_its_status_with_one_error_info(server, listener, error, status):
    listener.raises = error
    stub = rpc.AnalysisServiceStub(grpc.insecure_channel(server.address))
    with pytest.raises(grpc.RpcError) as caught:
        stub.AnalyzeAudio(pb.AnalyzeAudioRequest())
    assert caught.value.code().name == status
    details = rpc_status.from_call(caught.value).details
    infos = [d for d in details if d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    assert (len(infos), info.reason, info.domain) == (1, error.reason, "analysis")


def test_unavailable_carries_retry_info_and_pushback(server, listener):
    listener.raises = errors.Unavailable("store is down", retry_after_s=2.5)
    with pytest.raises(grpc.RpcError) as caught:
        rpc.AnalysisServiceStub(grpc.insecure_channel(server.address)).AnalyzeAudio(pb.AnalyzeAudioRequest())
    assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "2500"


def test_the_client_raises_the_error_that_the_server_meant(client, listener):
    listener.raises = errors.InvalidRequest(violations=[("steps", "must be between 1 and 1000, got 0")])
    with pytest.raises(errors.InvalidRequest) as caught:
        client.call("AnalyzeAudio", pb.AnalyzeAudioRequest())
    assert caught.value.violations == (("steps", "must be between 1 and 1000, got 0"),)


def test_a_bug_says_internal_and_nothing_more(client, listener):
    listener.raises = RuntimeError("secret detail")
    with pytest.raises(errors.Internal) as caught:
        client.call("AnalyzeAudio", pb.AnalyzeAudioRequest())
    assert (str(caught.value), caught.value.reason) == ("internal error", "INTERNAL")


def test_two_run_two_wait_and_the_fifth_is_refused_at_once_while_quick_calls_get_through(server, listener):
    stub = rpc.AnalysisServiceStub(grpc.insecure_channel(server.address))
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(stub.CutClips, pb.CutClipsRequest()) for _ in range(4)]
        wait_until(lambda: server.guard.admission._queue._value == 0)
        with pytest.raises(grpc.RpcError) as refused:
            stub.CutClips(pb.CutClipsRequest(), timeout=2)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert listener.running == 2
        assert stub.AnalyzeAudio(pb.AnalyzeAudioRequest(), timeout=2).duration_s == 1
        listener.release.set()
        assert all(call.result() is not None for call in held)


def test_a_caller_that_gives_up_while_waiting_frees_its_place(server, listener):
    stub = rpc.AnalysisServiceStub(grpc.insecure_channel(server.address))
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(stub.CutClips, pb.CutClipsRequest()) for _ in range(2)]
        time.sleep(0.3)
        for _ in range(6):
            with pytest.raises(grpc.RpcError) as caught:
                stub.CutClips(pb.CutClipsRequest(), timeout=0.3)
            assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        time.sleep(0.5)
        assert server.guard.admission._queue._value == 2
        listener.release.set()
        assert all(call.result() is not None for call in held)


def test_the_request_id_travels_through_the_call(client, listener):
    token = request_id.set("song-17")
    client.call("AnalyzeAudio", pb.AnalyzeAudioRequest())
    request_id.reset(token)
    assert listener.seen == ["song-17"]


def test_the_client_learns_how_much_the_server_takes(client):
    client.call("AnalyzeAudio", pb.AnalyzeAudioRequest())
    assert [endpoint.slots for endpoint in client._endpoints._known.values()] == [2]


def test_the_client_waits_for_a_server_that_comes_back(listener):
    service = Service("analysis", NAME, lambda s: rpc.add_AnalysisServiceServicer_to_server(listener, s))
    first = Server(service, ServiceSettings(address="127.0.0.1:0"))
    first.start()
    first.stop(grace_s=0)
    client = Channel(first.address, rpc.AnalysisServiceStub)
    kept = []

    def come_back():
        kept.append(Server(service, ServiceSettings(address=first.address)))
        kept[0].start()

    threading.Timer(1.0, come_back).start()
    assert client.call("AnalyzeAudio", pb.AnalyzeAudioRequest(), patience_s=20).duration_s == 1


def test_no_server_is_a_clear_error_within_the_patience():
    started = time.monotonic()
    with pytest.raises(errors.Unavailable):
        Channel("127.0.0.1:1", rpc.AnalysisServiceStub).call("AnalyzeAudio", pb.AnalyzeAudioRequest(), patience_s=1)
    assert time.monotonic() - started < 5


def test_watchers_and_quick_calls_get_through_where_no_work_does():
    admission = Admission("test", slots=1)
    with admission._place(admission._queue), admission._place(admission._queue):
        with pytest.raises(errors.Busy), admission.work(None):
            pass
        with admission.watch(), admission.light():
            pass


def test_reflection_names_the_service(server):
    with grpc.insecure_channel(server.address) as channel:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask])))
    assert NAME in {service.name for service in answer.list_services_response.service}


def test_metrics_count_calls_by_method_and_status(client):
    client.call("AnalyzeAudio", pb.AnalyzeAudioRequest())
    port = serve_metrics("127.0.0.1:0")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        text = page.read().decode()
    labels = f'rpc_grpc_status_code="OK",rpc_method="AnalyzeAudio",rpc_service="{NAME}"'
    assert f"rpc_server_duration_seconds_count{{{labels}}}" in text
    assert "luthier_work_waiting" in text


def test_health_says_serving_and_not_serving_before_the_stop(server):
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
    assert stub.Check(health_pb2.HealthCheckRequest(service=NAME)).status == 1
    server.health.enter_graceful_shutdown()
    assert stub.Check(health_pb2.HealthCheckRequest(service=NAME)).status == 2


def test_a_graceful_stop_finishes_the_call_that_runs(server, listener):
    stub = rpc.AnalysisServiceStub(grpc.insecure_channel(server.address))
    call = stub.CutClips.future(pb.CutClipsRequest())
    while not listener.running:
        time.sleep(0.01)
    threading.Timer(0.5, listener.release.set).start()
    server.stop()
    assert call.result() == pb.CutClipsResponse()
