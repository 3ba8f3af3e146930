"""What is served beside gRPC calls the gRPC server by a socket of its own: who is named there, and who is believed."""

import hashlib
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc as rpc
from luthier_kit.rpc import Server, Service, ServiceSettings, SettingsError, forwarded
from tests.kit.rpc.certificates import authority, issued
from tests.kit.rpc.serving import CONTRACT, Analysis, wait_until

TOKEN = "alice-token-0123456789"


class Beside:
    """A front that keeps where the gRPC server is reached, and what is asked of it, in order."""

    def __init__(self) -> None:
        self.target = ""
        self.asked: list[str] = []

    def start(self, target: str) -> None:
        self.target = target
        self.asked.append("start")

    def stop(self) -> None:
        self.asked.append("stop")


@contextmanager
def fronted(servicer: Analysis, **settings: Any) -> Iterator[tuple[Server, Beside]]:
    """A server with a front."""
    front = Beside()
    service = Service(CONTRACT, servicer, light=[servicer.AnalyzeAudio], front=front)
    server = Server(service, ServiceSettings(**{"address": "127.0.0.1:0", **settings}))
    server.start()
    try:
        yield server, front
    finally:
        servicer.release.set()
        server.stop(grace_s=0)


def analyze(target: str, *metadata: tuple[str, str]) -> float:
    with grpc.insecure_channel(target) as channel:
        return rpc.AnalysisServiceStub(channel).AnalyzeAudio(pb.AnalyzeAudioRequest(), metadata=metadata).duration_s


def cut(target: str, *metadata: tuple[str, str]) -> pb.CutClipsResponse:
    with grpc.insecure_channel(target) as channel:
        return rpc.AnalysisServiceStub(channel).CutClips(pb.CutClipsRequest(), metadata=metadata, timeout=60)


def refused(target: str, *metadata: tuple[str, str]) -> str:
    """What a call of work is told that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        cut(target, *metadata)
    return caught.value.details() or ""


def test_the_front_starts_when_calls_are_taken_and_stops_after_the_last() -> None:
    with fronted(Analysis()) as (_, front):
        assert analyze(front.target) == 1
        assert front.asked == ["start"]
    assert front.asked == ["start", "stop"]


def test_nobody_else_can_enter_the_folder_of_its_socket_which_goes_at_the_end() -> None:
    with fronted(Analysis()) as (_, front):
        folder = Path(front.target.removeprefix("unix:")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


def test_a_folder_too_long_for_a_socket_is_a_setting_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(SettingsError, match="TMPDIR is too long"), fronted(Analysis()):
        pass


@pytest.mark.parametrize(
    ("client", "host"), [(("10.0.0.7", 4711), "10.0.0.7"), (("2001:db8::7", 4711), "%5B2001:db8::7%5D")]
)
def test_a_caller_without_a_name_is_bounded_by_the_host_that_the_front_names(
    client: tuple[str, int], host: str
) -> None:
    servicer = Analysis()
    with (
        fronted(servicer, slots=4, caller_in_flight=1) as (_, front),
        ThreadPoolExecutor(2) as pool,
    ):
        held = [pool.submit(cut, front.target, *forwarded(client))]
        wait_until(lambda: servicer.begun == 1)
        assert refused(front.target, *forwarded((client[0], 4712))).startswith(f"{host} has 1 calls")
        held.append(pool.submit(cut, front.target, *forwarded(("10.0.0.8", 4711))))
        wait_until(lambda: servicer.begun == 2)
        servicer.release.set()
        assert all(call.result() is not None for call in held)


def test_a_caller_over_the_network_who_names_another_host_is_not_believed() -> None:
    servicer = Analysis()
    with fronted(servicer, slots=4, caller_in_flight=1) as (server, _), ThreadPoolExecutor(1) as pool:
        held = pool.submit(cut, server.address)
        wait_until(lambda: servicer.begun == 1)
        assert refused(server.address, *forwarded(("10.0.0.7", 4711))).startswith("127.0.0.1 has 1 calls")
        servicer.release.set()
        assert held.result() is not None


def test_where_callers_show_certificates_a_call_of_the_front_needs_a_token(tmp_path: Path) -> None:
    ca = authority(tmp_path, "ca")
    own = issued(ca, tmp_path, "server", san="DNS:localhost")
    callers = tmp_path / "callers"
    callers.mkdir()
    (callers / "alice").write_text(f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}")
    servicer = Analysis()
    tls = {"tls_cert": str(own.cert), "tls_key": str(own.key), "tls_client_ca": str(ca.cert)}
    with fronted(servicer, callers=str(callers), caller_permissions=("*=operate",), **tls) as (_, front):
        assert refused(front.target).startswith("the call brings no credentials")
        assert analyze(front.target, ("authorization", f"Bearer {TOKEN}")) == 1
    assert servicer.callers == ["alice"]
