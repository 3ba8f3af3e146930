"""A service for tests of the kit, and clients with credentials of their own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc as rpc
from luthier_kit.rpc import Channel, Credentials, Server, Service, ServiceSettings, current_caller

NAME = "luthier.analysis.v1.AnalysisService"


class Listener(rpc.AnalysisServiceServicer):
    """Answers at once (a quick call), or works for `work_s` or until it is released (work)."""

    def __init__(self, work_s: float = 20.0) -> None:
        self.work_s = work_s
        self.release = threading.Event()
        self.callers: list[str] = []
        self.running = 0

    def AnalyzeAudio(self, request, context):
        self.callers.append(current_caller.get())
        return pb.AnalyzeAudioResponse(duration_s=1)

    def CutClips(self, request, context):
        self.running += 1
        self.release.wait(self.work_s)
        return pb.CutClipsResponse()


def service(listener: Listener) -> Service:
    register = lambda server: rpc.add_AnalysisServiceServicer_to_server(listener, server)  # noqa: E731
    return Service("analysis", NAME, register, light={"AnalyzeAudio"})


@contextmanager
def serving(listener: Listener, **settings) -> Iterator[Server]:
    """A server on a free port of loopback."""
    server = Server(service(listener), ServiceSettings(**{"address": "127.0.0.1:0", **settings}))
    server.start()
    try:
        yield server
    finally:
        listener.release.set()
        server.stop(grace_s=0)


@contextmanager
def calling(server: Server, host: str = "localhost", **environ: str) -> Iterator[Channel]:
    """A client that knows nothing but what `environ` says."""
    target = f"{host}:{server.address.rpartition(':')[2]}"
    client = Channel(target, rpc.AnalysisServiceStub, credentials=Credentials(environ))
    try:
        yield client
    finally:
        client.close()


def ask(client: Channel, **options) -> float:
    """One quick call."""
    return client.call("AnalyzeAudio", pb.AnalyzeAudioRequest(), **options).duration_s
