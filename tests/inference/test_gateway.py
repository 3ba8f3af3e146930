"""Inference behind a gateway, the nginx of deploy/gateway/nginx.conf: what gRPC and HTTP rely on gets through it."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference import metrics
from luthier_inference.web.app import HttpFront
from tests.inference.conftest import PROMPT
from tests.inference.web.conftest import (  # noqa: F401
    GENERATE,
    Both,
    body,
    both,
    events,
    slow_steps,
    wait_until,
)
from tests.kit.rpc.certificates import Pair, authority, issued
from tests.model.small import ModelFiles
from tests.support.services import require_tool
from tests.support.stores import free_port

pytestmark = pytest.mark.slow
CONFIGURATION = Path(__file__).parents[2] / "deploy/gateway/nginx.conf"
NAME = "generate.example.org"


@dataclass(frozen=True)
class Gateway:
    """Where it listens, its process, its certificate's files, and the authority that its callers trust."""

    port: int
    process: subprocess.Popen[bytes]
    pair: Pair
    trusted: Pair

    def channel(self, *more: tuple[str, int | str]) -> grpc.Channel:
        secret = grpc.ssl_channel_credentials(self.trusted.cert.read_bytes())
        return grpc.secure_channel(
            f"127.0.0.1:{self.port}", secret, options=[("grpc.ssl_target_name_override", NAME), *more]
        )

    @contextmanager
    def stub(self) -> Iterator[inference_pb2_grpc.InferenceServiceStub]:
        with self.channel() as channel:
            yield inference_pb2_grpc.InferenceServiceStub(channel)

    def serial(self) -> str:
        """Serial number of the certificate that it shows to a new connection."""
        openssl = [str(require_tool("openssl"))]
        asked = [*openssl, "s_client", "-connect", f"127.0.0.1:{self.port}", "-servername", NAME]
        shown = subprocess.run(asked, input=b"", capture_output=True, check=False).stdout
        read = subprocess.run([*openssl, "x509", "-noout", "-serial"], input=shown, capture_output=True, check=True)
        return read.stdout.decode().strip()


@contextmanager
def nginx(folder: Path, port: int, grpc_address: str, web_address: str) -> Iterator[Gateway]:
    """Runs the configuration as it is written, on a port and before these addresses."""
    program, trusted = require_tool("nginx"), authority(folder, "authority")
    pair = issued(trusted, folder, "server", san=f"DNS:{NAME}")
    text = CONFIGURATION.read_text()
    for old, new in {"7107": grpc_address, "7307": web_address, "8443": f"127.0.0.1:{port}"}.items():
        assert f"127.0.0.1:{old}" in text
        text = text.replace(f"127.0.0.1:{old}", new)
    temporary = "".join(
        f"  {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = re.sub(r"^http \{\n", f"http {{\n{temporary}", text, flags=re.MULTILINE)
    (folder / "nginx.conf").write_text(f"daemon off;\npid {folder}/nginx.pid;\n{text}")
    command = [str(program), "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, (folder / "error.log").read_text()
        yield Gateway(port, process, pair, trusted)
    finally:
        process.send_signal(signal.SIGTERM)  # at once, its workers too
        process.wait(timeout=10)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def behind(model_files: ModelFiles, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """The service, which is told under which origin browsers see it."""
    with both(model_files, tmp_path_factory.mktemp("behind"), web_origins=(f"https://{NAME}:{port}",)) as served:
        yield served


@pytest.fixture(scope="module")
def gateway(behind: Both, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    front = behind.server.service.front
    assert isinstance(front, HttpFront)
    folder = tmp_path_factory.mktemp("gateway")
    folder.chmod(0o755)
    with nginx(folder, port, behind.server.address, front.address) as gateway:
        yield gateway


def asked(**fields: object) -> pb.StreamGenerateRequest:
    request = pb.GenerateRequest(**{"prompt": PROMPT, "seconds_total": 1.0, "steps": 4, **fields})  # type: ignore[arg-type]
    return pb.StreamGenerateRequest(request=request)


def steps() -> float:
    found: float = metrics.STEPS.labels("tiny")._value.get()
    return found


def settled() -> float:
    """The number of steps, once no more are made."""
    before = -1.0
    while before != (now := steps()):
        before = now
        time.sleep(0.5)
    return now


def test_a_stream_passes_message_by_message(gateway: Gateway, slow_steps: None) -> None:  # noqa: F811
    with gateway.stub() as stub:
        came = [
            (time.monotonic(), event.WhichOneof("event"))
            for event in stub.StreamGenerate(asked(seed=1, steps=10), timeout=60)
        ]
    progress = [at for at, kind in came if kind == "progress"]
    assert len(progress) == 10
    assert progress[-1] - progress[0] > 0.6  # steps of a tenth of a second, not all at the end
    assert [kind for _, kind in came[10:12]] == ["response", "audio_chunk"]


def test_the_audio_is_that_of_the_service(gateway: Gateway, behind: Both) -> None:
    with gateway.stub() as stub:
        through = b"".join(event.audio_chunk for event in stub.StreamGenerate(asked(seed=2, seconds_total=6.0)))
    direct = behind.stub.Generate(asked(seed=2, seconds_total=6.0).request)
    assert through == behind.store.blobs.read(direct.audio)
    assert len(through) > 100_000


def test_a_refusal_s_details_pass_in_the_trailers(gateway: Gateway, behind: Both) -> None:
    request = asked(prompt="", steps=0, seconds_total=1e9, negative_prompt="x" * 100_000).request
    refused = []
    with gateway.stub() as stub:
        for one in (stub, behind.stub):
            with pytest.raises(grpc.RpcError) as caught:
                one.Generate(request, timeout=30)
            trailers = {each.key: each.value for each in caught.value.trailing_metadata()}
            refused.append((caught.value.code(), caught.value.details(), trailers["grpc-status-details-bin"]))
    assert refused[0] == refused[1]
    assert refused[0][0] == grpc.StatusCode.INVALID_ARGUMENT


def test_a_deadline_ends_the_work_behind_it(gateway: Gateway, slow_steps: None) -> None:  # noqa: F811
    before, began = settled(), time.monotonic()
    with gateway.stub() as stub, pytest.raises(grpc.RpcError) as late:
        stub.Generate(asked(seed=3, steps=1000).request, timeout=1.0)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 3
    assert settled() - before < 20


def test_a_cancel_ends_the_work_behind_it(gateway: Gateway, slow_steps: None) -> None:  # noqa: F811
    with gateway.stub() as stub:
        call = stub.StreamGenerate(asked(seed=4, steps=1000), timeout=120)
        for event in call:
            if event.progress.step == 3:
                break
        at_cancel = steps()
        call.cancel()  # type: ignore[no-untyped-call]
        assert settled() - at_cancel <= 3


def test_a_long_request_passes_and_a_longer_one_than_grpc_takes_is_refused_by_the_service(gateway: Gateway) -> None:
    with gateway.stub() as stub:
        with pytest.raises(grpc.RpcError) as long:
            stub.Generate(asked(prompt="la " * 500_000).request, timeout=30)  # 1.5 MB: the service reads and refuses it
        with pytest.raises(grpc.RpcError) as longer:
            stub.Generate(asked(prompt="la " * 2_000_000).request, timeout=30)  # 6 MB
    assert long.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert longer.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_server_sent_events_come_as_they_are_made(gateway: Gateway, slow_steps: None) -> None:  # noqa: F811
    url = f"https://{NAME}:{gateway.port}{GENERATE}"
    asked_of = body(seed=5, num_inference_steps=10, stream_format="sse")
    with client(gateway) as http, http.stream("POST", url, json=asked_of) as answer:
        assert answer.status_code == 200, answer.read()
        came = [time.monotonic() for _ in events(answer.iter_lines())]
    assert came[-1] - came[0] > 0.6


@contextmanager
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """HTTP/1.1 to the gateway under its name."""

    class ToLoopback(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            request.extensions["sni_hostname"] = NAME
            request.url = request.url.copy_with(host="127.0.0.1")
            return super().handle_request(request)

    with httpx.Client(transport=ToLoopback(verify=str(gateway.trusted.cert)), timeout=60) as http:
        yield http


def test_a_renewed_certificate_is_shown_and_a_stream_under_way_is_not_broken(
    gateway: Gateway,
    slow_steps: None,  # noqa: F811
    tmp_path: Path,
) -> None:
    old = gateway.serial()
    with gateway.stub() as stub:
        call = stub.StreamGenerate(asked(seed=6, steps=30), timeout=120)
        next(iter(call))
        issued(gateway.trusted, tmp_path, "renewed", san=f"DNS:{NAME}").copy_to(gateway.pair)
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: gateway.serial() != old)
        kinds = [event.WhichOneof("event") for event in call]
    assert kinds.count("progress") == 29
    assert kinds[-1] == "audio_chunk"
    with gateway.stub() as stub:
        assert stub.Generate(asked(seed=7).request, timeout=60).audio.key


def test_a_service_that_is_away_is_unavailable(tmp_path: Path) -> None:
    """So that callers try again."""
    tmp_path.chmod(0o755)
    nobody = f"127.0.0.1:{free_port()}"
    with (
        nginx(tmp_path, free_port(), nobody, nobody) as gateway,
        gateway.stub() as stub,
        pytest.raises(grpc.RpcError) as refused,
    ):
        stub.Generate(asked().request, timeout=30)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
