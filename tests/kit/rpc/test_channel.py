"""Generated stubs over a `Channel`: the platform's errors, and calls that are tried again elsewhere or later."""

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc as rpc
from luthier.training.v1 import training_pb2 as training
from luthier.training.v1 import training_pb2_grpc as training_rpc
from luthier_kit.rpc import (
    CALLER_IN_FLIGHT,
    UNREACHABLE,
    Cancelled,
    Channel,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    Server,
    Service,
    ServiceSettings,
    Unavailable,
)
from tests.kit.rpc.serving import Analysis, analyze, calling, cut, service, serving, wait_until
from tests.support.services import running


class Watched(training_rpc.TrainingServiceServicer):
    """Streams so many events, one every 50 ms; `raises_at` says before which of them it fails once."""

    def __init__(self) -> None:
        self.events = 100
        self.gone = threading.Event()
        self.raises_at: dict[int, Exception] = {}

    def WatchTrainingRun(
        self, request: training.WatchTrainingRunRequest, context: grpc.ServicerContext
    ) -> Iterator[training.WatchTrainingRunResponse]:
        context.add_callback(self.gone.set)
        for number in range(self.events):
            if number in self.raises_at:
                raise self.raises_at.pop(number)
            yield training.WatchTrainingRunResponse()
            self.gone.wait(0.05)


@pytest.fixture
def watched() -> Watched:
    return Watched()  # type: ignore[abstract]  # the generated class answers the other methods with UNIMPLEMENTED


def watched_service(watched: Watched) -> Service:
    contract = training.DESCRIPTOR.services_by_name["TrainingService"]
    return Service(contract, watched, watch=[watched.WatchTrainingRun])


@pytest.fixture
def watching(watched: Watched) -> Iterator[Channel]:
    with running(watched_service(watched)) as address, Channel(address) as channel:
        yield channel


def watch(channel: Channel) -> Iterator[training.WatchTrainingRunResponse]:
    return iter(training_rpc.TrainingServiceStub(channel).WatchTrainingRun(training.WatchTrainingRunRequest()))


# Errors


def test_a_stub_raises_the_error_that_the_server_meant(channel: Channel, servicer: Analysis) -> None:
    servicer.raises = InvalidRequest(violations=[("steps", "must be between 1 and 1000, got 0")])
    with pytest.raises(InvalidRequest) as caught:
        rpc.AnalysisServiceStub(channel).AnalyzeAudio(pb.AnalyzeAudioRequest())
    assert caught.value.violations == (("steps", "must be between 1 and 1000, got 0"),)


def test_a_deadline_bounds_one_attempt_and_is_an_error_of_its_own(channel: Channel) -> None:
    with pytest.raises(DeadlineExceeded):
        cut(channel, timeout=0.3)


def test_a_closed_channel_says_so(channel: Channel) -> None:
    channel.close()
    with pytest.raises(Cancelled) as caught:
        analyze(channel)
    assert caught.value.reason == "CLIENT_CLOSED"


def test_the_client_learns_how_much_the_server_takes(channel: Channel) -> None:
    analyze(channel)
    assert [address.slots for address in channel._known.values()] == [2]


# Trying again


def test_the_client_waits_for_a_server_that_comes_back(servicer: Analysis) -> None:
    first = Server(service(servicer), ServiceSettings(address="127.0.0.1:0"))
    first.start()
    first.stop(grace_s=0)
    kept: list[Server] = []

    def come_back() -> None:
        kept.append(Server(service(servicer), ServiceSettings(address=first.address)))
        kept[0].start()

    threading.Timer(1.0, come_back).start()
    with Channel(first.address, retry_budget_s=20) as channel:
        assert analyze(channel) == 1
    kept[0].stop(grace_s=0)


def test_no_server_is_a_clear_error_within_the_budget() -> None:
    started = time.monotonic()
    with Channel("127.0.0.1:1", retry_budget_s=1) as channel, pytest.raises(Unavailable) as caught:
        analyze(channel)
    assert caught.value.reason == UNREACHABLE
    assert time.monotonic() - started < 5


def test_a_name_without_an_address_is_an_error_when_the_budget_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier_kit.rpc._channel._addresses", lambda target: set())
    started = time.monotonic()
    with Channel("nowhere:1", retry_budget_s=0.5) as channel, pytest.raises(Unavailable, match="no server at nowhere"):
        analyze(channel)
    assert 0.4 < time.monotonic() - started < 2


@pytest.mark.parametrize(
    "error",
    [
        QuotaExceeded("alice has 2 calls in flight", reason=CALLER_IN_FLIGHT),
        Unavailable("the store is down", reason="STORE_UNAVAILABLE", retry_after_s=0.2),
    ],
    ids=lambda error: error.reason,
)
def test_when_the_budget_is_spent_the_last_refusal_is_raised_as_it_was(servicer: Analysis, error: Exception) -> None:
    """And not that the only address rests."""
    servicer.raises = error
    with serving(servicer) as server, calling(server, retry_budget_s=1.5) as channel:
        started = time.monotonic()
        with pytest.raises(type(error), match=str(error)) as caught:
            analyze(channel)
        assert getattr(caught.value, "reason", "") == getattr(error, "reason", "?")
        assert 1 < time.monotonic() - started < 3
        assert len(servicer.callers) == 3  # at once, after a second, at the end of the budget


def test_a_server_s_hint_makes_the_pause_longer(servicer: Analysis) -> None:
    servicer.raises = Unavailable("loading", retry_after_s=2.0)
    with serving(servicer) as server, calling(server) as channel:
        threading.Timer(0.5, lambda: setattr(servicer, "raises", None)).start()
        started = time.monotonic()
        assert analyze(channel) == 1
    assert 2 <= time.monotonic() - started < 4


def test_what_will_not_pass_is_not_tried_again(channel: Channel, servicer: Analysis) -> None:
    servicer.raises = NotFound("no such clip")
    with pytest.raises(NotFound):
        analyze(channel)
    assert len(servicer.callers) == 1


# Streams


def test_a_stream_is_an_iterator_and_closing_it_cancels_the_call(watching: Channel, watched: Watched) -> None:
    events = watch(watching)
    assert [type(next(events)) for _ in range(3)] == [training.WatchTrainingRunResponse] * 3
    events.close()  # type: ignore[attr-defined]  # a generator
    assert watched.gone.wait(5), "the server was not told that its caller went"
    wait_until(lambda: [address.streams for address in watching._known.values()] == [0])


def test_a_stream_is_tried_again_before_its_first_message_only(watching: Channel, watched: Watched) -> None:
    watched.raises_at = {0: Unavailable("starting"), 2: Unavailable("the store is down")}
    events = watch(watching)
    assert next(events) is not None
    assert next(events) is not None
    with pytest.raises(Unavailable, match="the store is down"):
        next(events)


def test_an_empty_stream_ends(watching: Channel, watched: Watched) -> None:
    watched.events = 0
    assert list(watch(watching)) == []
