"""A service for tests of the kit, and channels to it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc as rpc
from luthier_kit.rpc import Channel, Credentials, Server, Service, ServiceSettings, current_caller, request_id

CONTRACT = pb.DESCRIPTOR.services_by_name["AnalysisService"]
NAME = "luthier.analysis.v1.AnalysisService"


class Analysis(rpc.AnalysisServiceServicer):
    """`AnalyzeAudio` is quick: it does `before`, then answers at once, or raises `raises`. `CutClips` works for
    `work_s`, or to `release`.

    `begun` counts the calls of work that got a slot.
    """

    def __init__(self, work_s: float = 20.0) -> None:
        self.work_s = work_s
        self.raises: BaseException | None = None
        self.before: Callable[[], None] = lambda: None
        self.release = threading.Event()
        self.callers: list[str] = []
        self.request_ids: list[str] = []
        self.begun = 0

    def AnalyzeAudio(self, request: pb.AnalyzeAudioRequest, context: grpc.ServicerContext) -> pb.AnalyzeAudioResponse:
        self.callers.append(current_caller.get())
        self.request_ids.append(request_id.get())
        self.before()
        if self.raises:
            raise self.raises
        return pb.AnalyzeAudioResponse(duration_s=1)

    def DecodeAudio(self, request: pb.DecodeAudioRequest, context: grpc.ServicerContext) -> pb.DecodeAudioResponse:
        return pb.DecodeAudioResponse(duration_s=1)

    def CutClips(self, request: pb.CutClipsRequest, context: grpc.ServicerContext) -> pb.CutClipsResponse:
        self.begun += 1
        self.release.wait(self.work_s)
        if self.raises:
            raise self.raises
        return pb.CutClipsResponse()


def service(servicer: Analysis, prepare: Callable[[], None] | None = None) -> Service:
    return Service(CONTRACT, servicer, light=[servicer.AnalyzeAudio], prepare=prepare)


@contextmanager
def serving(servicer: Analysis, **settings: Any) -> Iterator[Server]:
    """A server on a free port of loopback; callers with names may call all that it has, unless told otherwise."""
    if settings.get("callers") or settings.get("tls_client_ca"):
        settings.setdefault("caller_permissions", ("*=operate",))
    server = Server(service(servicer), ServiceSettings(**{"address": "127.0.0.1:0", **settings}))
    server.start()
    try:
        yield server
    finally:
        servicer.release.set()
        server.stop(grace_s=0)


@contextmanager
def calling(
    server: Server, environ: Mapping[str, str] | None = None, *, host: str = "localhost", retry_budget_s: float = 60.0
) -> Iterator[Channel]:
    """A channel whose credentials are what `environ` says and nothing else."""
    target = f"{host}:{server.address.rpartition(':')[2]}"
    with Channel(target, credentials=Credentials(environ or {}), retry_budget_s=retry_budget_s) as channel:
        yield channel


def analyze(channel: grpc.Channel) -> float:
    """One quick call."""
    return rpc.AnalysisServiceStub(channel).AnalyzeAudio(pb.AnalyzeAudioRequest()).duration_s


def cut(channel: grpc.Channel, timeout: float = 60.0) -> pb.CutClipsResponse:
    """One call of work."""
    return rpc.AnalysisServiceStub(channel).CutClips(pb.CutClipsRequest(), timeout=timeout)


def wait_until(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
