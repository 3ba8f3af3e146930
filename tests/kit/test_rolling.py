"""Servers behind one name come and go under a steady load of calls: none fails, and calls move to the new ones.

127.0.0.1, 127.0.0.2, ... with one port stand for Pods; the patched `_addresses` stands for the name server.
"""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc as rpc
from luthier.training.v1 import training_pb2 as training
from luthier.training.v1 import training_pb2_grpc as training_rpc
from luthier_kit import endpoints, errors
from luthier_kit.rpc import MAX_LOST, Channel, Credentials, Server, Service, ServiceSettings
from tests.kit.listener import Listener, ask, calling, service
from tests.kit.test_server import wait_until
from tests.support.services import running
from tests.support.stores import free_port


class Pods:
    """Servers on loopback addresses, and the name that resolves to those that are ready."""

    def __init__(self) -> None:
        self.port = free_port()
        self.named: set[str] | None = set()
        self.running: dict[str, tuple[Server, Listener]] = {}

    def start(self, number: int, **more) -> Listener:
        address, listener = f"127.0.0.{number}:{self.port}", Listener(work_s=0.02)
        server = Server(service(listener), ServiceSettings(address=address, slots=2, grace_s=5, **more))
        server.start()
        self.running[address] = (server, listener)
        self.named.add(address)
        return listener

    def stop(self, number: int, *, grace_s: float | None = None, unnamed_first: bool = False) -> None:
        address = f"127.0.0.{number}:{self.port}"
        server, _ = self.running.pop(address)
        if unnamed_first:
            self.named.discard(address)
        server.stop(grace_s)
        self.named.discard(address)


@pytest.fixture
def pods(monkeypatch):
    pods = Pods()
    real = endpoints._addresses
    named = lambda: None if pods.named is None else set(pods.named)  # noqa: E731
    monkeypatch.setattr(endpoints, "_addresses", lambda target: named() if "pods" in target else real(target))
    yield pods
    pods.named = set()
    for server, listener in pods.running.values():
        listener.release.set()
        server.stop(0)


@pytest.fixture
def client(pods):
    client = Channel(f"pods:{pods.port}", rpc.AnalysisServiceStub, slots_hint=2, credentials=Credentials({}))
    yield client
    client.close()


class Load:
    """Calls without a pause from a few threads; counts how each ended."""

    def __init__(self, client: Channel, threads: int = 4) -> None:
        self.client, self.ended, self._stop = client, Counter(), threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self._threads = [self._pool.submit(self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.client.call("CutClips", pb.CutClipsRequest(), timeout_s=10, patience_s=20)
                self.ended["OK"] += 1
            except Exception as error:
                self.ended[repr(error)] += 1

    def finish(self) -> Counter:
        self._stop.set()
        for thread in self._threads:
            thread.result(30)
        return self.ended


def test_a_rolling_upgrade_under_load_fails_no_call_and_moves_to_the_new_servers(pods, client):
    """Each is replaced as Kubernetes does it: a new one first, then the old one drains, with the name late by a bit."""
    for number in (1, 2):
        pods.start(number, drain_s=0.2)
    load = Load(client)
    for old, new in ((1, 3), (2, 4)):
        listener = pods.start(new, drain_s=0.2)
        pods.stop(old)
        wait_until(lambda listener=listener: listener.running > 3)
    ended = load.finish()
    assert list(ended) == ["OK"], ended
    assert ended["OK"] > 20


def test_servers_that_are_killed_under_load_fail_no_call(pods, client):
    """No drain, no grace: calls in flight are cut and the name still tells the dead address for a while."""
    pods.start(1)
    pods.start(2)
    load = Load(client)
    for number in (1, 2):
        wait_until(lambda number=number: load.ended["OK"] > 20 * number)
        pods.stop(number, grace_s=0)
        time.sleep(0.3)
        pods.start(number)
    ended = load.finish()
    assert list(ended) == ["OK"], ended


def test_the_only_server_comes_back_under_another_address_and_is_found_within_two_seconds(pods, client):
    pods.start(1)
    client.call("CutClips", pb.CutClipsRequest())
    pods.stop(1, grace_s=0)
    pods.start(2)
    started = time.monotonic()
    client.call("CutClips", pb.CutClipsRequest(), patience_s=20)
    assert time.monotonic() - started < 2


def test_an_address_without_a_name_gets_no_new_call_while_its_last_one_finishes(pods, client):
    old, new = pods.start(1), None
    old.work_s = 20
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.call, "CutClips", pb.CutClipsRequest())
        wait_until(lambda: old.running == 1)
        new = pods.start(2)
        pods.named.discard(f"127.0.0.1:{pods.port}")
        client._endpoints._resolve_at = 0.0
        for _ in range(3):
            client.call("CutClips", pb.CutClipsRequest())
        assert (old.running, new.running) == (1, 3)
        assert len(client._endpoints._leaving) == 1
        old.release.set()
        assert held.result() is not None
    assert client._endpoints._leaving == []


class Watched(training_rpc.TrainingServiceServicer):
    """Tells the state of a run a few times."""

    def WatchTrainingRun(self, request, context):
        for _ in range(4):
            yield training.WatchTrainingRunResponse()
            time.sleep(0.1)


def test_a_stream_goes_on_when_its_address_leaves_the_name(monkeypatch):
    register = lambda server: training_rpc.add_TrainingServiceServicer_to_server(Watched(), server)  # noqa: E731
    name = "luthier.training.v1.TrainingService"
    with running(Service("training", name, register, watch={"WatchTrainingRun"})) as address:
        client = Channel(address, training_rpc.TrainingServiceStub, credentials=Credentials({}))
        watching = client.stream("WatchTrainingRun", training.WatchTrainingRunRequest())
        next(watching)
        monkeypatch.setattr(endpoints, "_addresses", lambda target: set())
        client._endpoints._resolve_at = 0.0
        with pytest.raises(errors.Unavailable):
            client.call("ListTrainingRuns", training.ListTrainingRunsRequest(), patience_s=0)
        assert len(list(watching)) == 3
        assert client._endpoints._leaving == []


def test_a_name_server_that_is_down_does_not_take_the_known_addresses_away(pods, client):
    pods.start(1)
    client.call("CutClips", pb.CutClipsRequest())
    pods.named, client._endpoints._resolve_at = None, 0.0
    assert client.call("CutClips", pb.CutClipsRequest(), patience_s=0) is not None


def test_a_stop_finishes_what_runs_and_what_waits_and_refuses_what_comes_after(pods, client):
    listener = pods.start(1, drain_s=0.3)
    listener.work_s = 20
    server = pods.running[f"127.0.0.1:{pods.port}"][0]
    with ThreadPoolExecutor(5) as pool:
        held = [pool.submit(client.call, "CutClips", pb.CutClipsRequest(), patience_s=0) for _ in range(4)]
        wait_until(lambda: server.guard.admission._queue._value == 0)
        assert listener.running == 2
        stopping = pool.submit(server.stop)
        with calling(server) as late:
            time.sleep(0.1)
            assert ask(late, patience_s=0) == 1  # it still serves while it drains
            time.sleep(0.4)
            with pytest.raises(errors.Unavailable):
                ask(late, patience_s=0)
        listener.release.set()
        assert all(call.result() is not None for call in held)
        assert listener.running == 4
        stopping.result()


def test_a_server_that_dies_late_in_a_call_leaves_the_whole_patience(pods, client):
    pods.start(1).work_s = 20
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.call, "CutClips", pb.CutClipsRequest(), patience_s=1)
        time.sleep(1.2)
        pods.start(2)
        pods.stop(1, grace_s=0)
        assert held.result() is not None


def test_a_call_that_takes_every_server_with_it_does_not_take_them_all(pods, client, monkeypatch):
    monkeypatch.setattr("luthier_kit.client.BEGUN_S", 0.1)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.call, "CutClips", pb.CutClipsRequest(), patience_s=60)
        for number in range(1, MAX_LOST + 1):
            listener = pods.start(number)
            listener.work_s = 20
            wait_until(lambda listener=listener: listener.running)
            time.sleep(0.2)
            pods.stop(number, grace_s=0)
        with pytest.raises(errors.QuotaExceeded, match=f"{MAX_LOST} servers went away") as lost:
            call.result(20)
    assert lost.value.reason == "CALL_LOST"
