"""Bounded admission: so many run, as many wait, more are refused; quick calls and watchers are admitted apart."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from luthier_kit.rpc import Admission, Busy, Server
from tests.kit.rpc.serving import Analysis, analyze, cut, wait_until


def test_two_run_two_wait_and_the_fifth_is_refused_at_once_while_quick_calls_get_through(
    server: Server, servicer: Analysis
) -> None:
    with grpc.insecure_channel(server.address) as plain, ThreadPoolExecutor(4) as pool:
        held = [pool.submit(cut, plain) for _ in range(4)]
        wait_until(lambda: server.guard.admission._queue._value == 0)
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
        wait_until(lambda: server.guard.admission._queue._value == 2)
        time.sleep(0.2)
        assert server.guard.admission._queue._value == 2
        servicer.release.set()
        assert all(call.result() is not None for call in held)


def test_watchers_and_quick_calls_get_through_where_no_work_does() -> None:
    admission = Admission("test", slots=1)
    with admission._held(admission._queue), admission._held(admission._queue):
        with pytest.raises(Busy), admission.work(None):  # type: ignore[arg-type]  # refused before the caller is asked
            pass
        with admission.watch(), admission.light():
            pass
