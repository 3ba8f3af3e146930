"""Servers behind one name come and go under a steady load of calls: none fails, and calls move to the new ones.

127.0.0.1, 127.0.0.2, ... with one port stand for Pods; the patched `_addresses` stands for the name server.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import pytest

from luthier.training.v1 import training_pb2 as training
from luthier.training.v1 import training_pb2_grpc as training_rpc
from luthier_kit.rpc import Channel, Credentials, QuotaExceeded, Server, Service, ServiceSettings, Unavailable
from luthier_kit.rpc import _channel as channels
from tests.kit.rpc.serving import Analysis, analyze, calling, cut, service, wait_until
from tests.support.services import running
from tests.support.stores import free_port


class Pods:
    """Servers on loopback addresses, and the name that resolves to those that are ready."""

    def __init__(self) -> None:
        self.port = free_port()
        self.named: set[str] = set()
        self.resolves = True  # else the name server is down
        self.running: dict[str, tuple[Server, Analysis]] = {}

    def start(self, number: int, **more: Any) -> Analysis:
        address, servicer = f"127.0.0.{number}:{self.port}", Analysis(work_s=0.02)
        server = Server(service(servicer), ServiceSettings(address=address, slots=2, grace_s=5, **more))
        server.start()
        self.running[address] = (server, servicer)
        self.named.add(address)
        return servicer

    def stop(self, number: int, *, grace_s: float | None = None, unnamed_first: bool = False) -> None:
        address = f"127.0.0.{number}:{self.port}"
        server, _ = self.running.pop(address)
        if unnamed_first:
            self.named.discard(address)
        server.stop(grace_s)
        self.named.discard(address)


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    pods, real = Pods(), channels._addresses

    def addresses(target: str) -> set[str] | None:
        if "pods" not in target:
            return real(target)
        return set(pods.named) if pods.resolves else None

    monkeypatch.setattr(channels, "_addresses", addresses)
    yield pods
    pods.named = set()
    for server, servicer in pods.running.values():
        servicer.release.set()
        server.stop(0)


@pytest.fixture
def client(pods: Pods) -> Iterator[Channel]:
    with Channel(f"pods:{pods.port}", slots_hint=2, credentials=Credentials({}), retry_budget_s=20) as client:
        yield client


def begun(servicer: Analysis, calls: int) -> bool:
    return servicer.begun >= calls


class Load:
    """Calls without a pause from a few threads; counts how each ended."""

    def __init__(self, client: Channel, threads: int = 4) -> None:
        self.client, self.ended, self._stop = client, Counter[str](), threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self._threads = [self._pool.submit(self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                cut(self.client, timeout=10)
                self.ended["OK"] += 1
            except Exception as error:
                self.ended[repr(error)] += 1

    def has_ended(self, calls: int) -> bool:
        return self.ended["OK"] > calls

    def finish(self) -> Counter[str]:
        self._stop.set()
        for thread in self._threads:
            thread.result(30)
        return self.ended


def test_a_rolling_upgrade_under_load_fails_no_call_and_moves_to_the_new_servers(pods: Pods, client: Channel) -> None:
    """Each is replaced as Kubernetes does it: a new one first, then the old one drains, with the name late by a bit."""
    for number in (1, 2):
        pods.start(number, drain_s=0.2)
    load = Load(client)
    for old, new in ((1, 3), (2, 4)):
        servicer = pods.start(new, drain_s=0.2)
        pods.stop(old)
        wait_until(partial(begun, servicer, 4))
    ended = load.finish()
    assert list(ended) == ["OK"], ended
    assert ended["OK"] > 20


def test_servers_that_are_killed_under_load_fail_no_call(pods: Pods, client: Channel) -> None:
    """No drain, no grace: calls in flight are cut and the name still tells the dead address for a while."""
    pods.start(1)
    pods.start(2)
    load = Load(client)
    for number in (1, 2):
        wait_until(partial(load.has_ended, 20 * number))
        pods.stop(number, grace_s=0)
        time.sleep(0.3)
        pods.start(number)
    ended = load.finish()
    assert list(ended) == ["OK"], ended


def test_the_only_server_comes_back_under_another_address_and_is_found_within_two_seconds(
    pods: Pods, client: Channel
) -> None:
    pods.start(1)
    cut(client)
    pods.stop(1, grace_s=0)
    pods.start(2)
    started = time.monotonic()
    cut(client)
    assert time.monotonic() - started < 2


def test_an_address_without_a_name_gets_no_new_call_while_its_last_one_finishes(pods: Pods, client: Channel) -> None:
    old = pods.start(1)
    old.work_s = 20
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(cut, client)
        wait_until(lambda: old.begun == 1)
        new = pods.start(2)
        pods.named.discard(f"127.0.0.1:{pods.port}")
        client._resolve_at = 0.0
        for _ in range(3):
            cut(client)
        assert (old.begun, new.begun) == (1, 3)
        assert len(client._leaving) == 1
        old.release.set()
        assert held.result() is not None
    assert client._leaving == []


class Watched(training_rpc.TrainingServiceServicer):
    """Tells the state of a run a few times."""

    def WatchTrainingRun(
        self, request: training.WatchTrainingRunRequest, context: grpc.ServicerContext
    ) -> Iterator[training.WatchTrainingRunResponse]:
        for _ in range(4):
            yield training.WatchTrainingRunResponse()
            time.sleep(0.1)


def test_a_stream_goes_on_when_its_address_leaves_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()  # type: ignore[abstract]  # the generated class answers the other methods with UNIMPLEMENTED
    contract = training.DESCRIPTOR.services_by_name["TrainingService"]
    with (
        running(Service(contract, watched, watch=[watched.WatchTrainingRun])) as address,
        Channel(address, credentials=Credentials({}), retry_budget_s=0) as client,
    ):
        stub = training_rpc.TrainingServiceStub(client)
        watching = iter(stub.WatchTrainingRun(training.WatchTrainingRunRequest()))
        next(watching)
        monkeypatch.setattr(channels, "_addresses", lambda target: set())
        client._resolve_at = 0.0
        with pytest.raises(Unavailable):
            stub.ListTrainingRuns(training.ListTrainingRunsRequest())
        assert len(list(watching)) == 3
        assert client._leaving == []


def test_a_name_server_that_is_down_does_not_take_the_known_addresses_away(pods: Pods, client: Channel) -> None:
    pods.start(1)
    cut(client)
    pods.resolves, client._resolve_at, client.retry_budget_s = False, 0.0, 0.0
    assert cut(client) is not None


def test_a_stop_finishes_what_runs_and_what_waits_and_refuses_what_comes_after(pods: Pods, client: Channel) -> None:
    servicer = pods.start(1, drain_s=0.3)
    servicer.work_s, client.retry_budget_s = 20, 0.0
    server = pods.running[f"127.0.0.1:{pods.port}"][0]
    with ThreadPoolExecutor(5) as pool:
        held = [pool.submit(cut, client) for _ in range(4)]
        wait_until(lambda: server.dispatcher.admission.queue.taken == 4)
        assert servicer.begun == 2
        stopping = pool.submit(server.stop)
        with calling(server, retry_budget_s=0) as late:
            time.sleep(0.1)
            assert analyze(late) == 1  # it still serves while it drains
            time.sleep(0.4)
            with pytest.raises(Unavailable):
                analyze(late)
        servicer.release.set()
        assert all(call.result() is not None for call in held)
        assert servicer.begun == 4
        stopping.result()


def test_a_server_that_dies_late_in_a_call_leaves_the_whole_budget(pods: Pods, client: Channel) -> None:
    pods.start(1).work_s = 20
    client.retry_budget_s = 1.0
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(cut, client)
        time.sleep(1.2)
        pods.start(2)
        pods.stop(1, grace_s=0)
        assert held.result() is not None


def test_a_call_that_takes_every_server_with_it_does_not_take_them_all(
    pods: Pods, client: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier_kit.rpc._channel.BEGUN_S", 0.1)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(cut, client)
        for number in range(1, channels.MAX_LOST + 1):
            servicer = pods.start(number)
            servicer.work_s = 20
            wait_until(partial(begun, servicer, 1))
            time.sleep(0.2)
            pods.stop(number, grace_s=0)
        with pytest.raises(QuotaExceeded, match=f"{channels.MAX_LOST} servers went away") as lost:
            call.result(20)
    assert lost.value.reason == "CALL_LOST"
