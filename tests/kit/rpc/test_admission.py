"""Bounded admission: so many run, as many wait, more are refused; quick calls and watchers are admitted apart."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from luthier_kit.rpc import InvalidRequest, Server, error_of_call
from luthier_kit.rpc._admission import OPENING_CALLS_PER_CONNECTION, REFLECTIONS
from tests.kit.rpc.serving import NAME, Analysis, analyze, cut, wait_until


def test_two_run_two_wait_and_the_fifth_is_refused_at_once_while_quick_calls_get_through(
    server: Server, servicer: Analysis
) -> None:
    with grpc.insecure_channel(server.address) as plain, ThreadPoolExecutor(4) as pool:
        held = [pool.submit(cut, plain) for _ in range(4)]
        wait_until(lambda: server.dispatcher.admission.queue.taken == 4)
        with pytest.raises(grpc.RpcError) as refused:
            cut(plain, timeout=2)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert servicer.begun == 2
        assert analyze(plain) == 1
        servicer.release.set()
        assert all(call.result() is not None for call in held)


def test_a_caller_that_gives_up_while_waiting_frees_its_place(server: Server, servicer: Analysis) -> None:
    with grpc.insecure_channel(server.address) as plain, ThreadPoolExecutor(4) as pool:
        held = [pool.submit(cut, plain) for _ in range(2)]
        wait_until(lambda: servicer.begun == 2)
        for _ in range(6):
            with pytest.raises(grpc.RpcError) as caught:
                cut(plain, timeout=0.3)
            assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        wait_until(lambda: server.dispatcher.admission.queue.taken == 2)
        time.sleep(0.2)
        assert server.dispatcher.admission.queue.taken == 2
        servicer.release.set()
        assert all(call.result() is not None for call in held)


def endless(stop: threading.Event) -> Iterator[bytes]:
    """The messages of a caller that never sends one."""
    stop.wait()
    yield from ()


def test_calls_without_a_message_are_bounded_and_ended_and_stop_nobody(
    server: Server, servicer: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier_kit.rpc._dispatch.OPENING_S", 1.5)
    stop = threading.Event()
    own = [("grpc.use_local_subchannel_pool", 1)]  # or both are one connection
    with grpc.insecure_channel(server.address, own) as silent, grpc.insecure_channel(server.address, own) as plain:
        open_call = silent.stream_unary(f"/{NAME}/CutClips", None, None)
        calls = [open_call.future(endless(stop)) for _ in range(300)]
        wait_until(lambda: server.dispatcher.admission.opening_calls.taken == OPENING_CALLS_PER_CONNECTION)
        assert analyze(plain) == 1
        probe = health_pb2_grpc.HealthStub(plain)
        assert probe.Check(health_pb2.HealthCheckRequest(), timeout=2).status == health_pb2.HealthCheckResponse.SERVING
        wait_until(lambda: all(call.done() for call in calls))
        stop.set()
    codes = Counter(call.code() for call in calls)
    assert codes == {
        grpc.StatusCode.UNAVAILABLE: 300 - OPENING_CALLS_PER_CONNECTION,
        grpc.StatusCode.DEADLINE_EXCEEDED: OPENING_CALLS_PER_CONNECTION,
    }
    assert servicer.begun == 0
    assert server.dispatcher.admission.opening_calls.taken == 0


def test_idle_reflection_streams_are_bounded_and_ended(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier_kit.rpc._dispatch.REFLECTION_IDLE_S", 1.0)
    stop = threading.Event()
    with grpc.insecure_channel(server.address) as plain:
        stream = plain.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", None, None)
        calls: list[Any] = [stream(endless(stop)) for _ in range(130)]
        assert analyze(plain) == 1
        wait_until(lambda: all(call.done() for call in calls))
        stop.set()
    codes = Counter(call.code() for call in calls)
    assert codes == {grpc.StatusCode.UNAVAILABLE: 130 - REFLECTIONS, grpc.StatusCode.OK: REFLECTIONS}


def test_bytes_that_are_no_message_and_a_call_without_one_are_the_callers_fault(server: Server) -> None:
    with grpc.insecure_channel(server.address) as plain:
        with pytest.raises(grpc.RpcError) as garbled:
            plain.unary_unary(f"/{NAME}/CutClips", None, None)(b"\xff\xff\xff", timeout=5)
        with pytest.raises(grpc.RpcError) as missing:
            plain.stream_unary(f"/{NAME}/CutClips", None, None)(iter(()), timeout=5)
    for refused, reason in ((garbled, "REQUEST_UNDECODABLE"), (missing, "REQUEST_MISSING")):
        error = error_of_call(refused.value)
        assert isinstance(error, InvalidRequest)
        assert (error.reason, error.violations[0][0]) == (reason, "request")
