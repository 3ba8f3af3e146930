"""Built images in containers: as user 10001, with a read-only root and no capabilities, each serves and stops.

IMAGE_RUN is the command that runs a container, such as `docker run` or `podman run --network bridge`; REGISTRY and TAG
name the images as in `make images`.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.images.dockerfile import services
from tests.images.test_licences import WITH_LIBFLAC

RUN = shlex.split(os.environ.get("IMAGE_RUN", ""))
ALL = services("base", "torch")
RESTRICTED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--volume=/scratch")
SETTINGS = {
    "DEVICE": "cpu",
    "LUTHIER_STORE_FOLDER": "/scratch/store",
    "LUTHIER_DATABASE_URL": "sqlite:////scratch/curation.db",
    "LUTHIER_HEALTH_ADDRESS": "0.0.0.0:7110",
}
READY_S = 120.0
TOOLS = "gcc g++ cc clang ld make cmake uv git"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RUN, reason="IMAGE_RUN names no command that runs a container"),
]


def image(service: str) -> str:
    """The image of a service."""
    return f"{os.environ.get('REGISTRY', 'luthier.local')}/{service}:{os.environ.get('TAG', '0.1.0')}"


def output(*arguments: str) -> str:
    """Output of a container that ends by itself."""
    command = [*RUN, "--rm", *RESTRICTED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=READY_S).stdout.strip()


@contextmanager
def started(service: str) -> Iterator[str]:
    """The name of a running container, removed in the end."""
    name = f"luthier-test-{service}-{os.getpid()}"
    variables = [f"--env={key}={value}" for key, value in SETTINGS.items()]
    command = [*RUN, "--detach", f"--name={name}", "--publish=127.0.0.1::7110", *RESTRICTED, *variables, image(service)]
    subprocess.run(command, check=True, capture_output=True, timeout=READY_S)
    try:
        yield name
    finally:
        subprocess.run([RUN[0], "rm", "--force", "--volumes", name], check=True, capture_output=True, timeout=READY_S)


def engine(*arguments: str) -> str:
    """Output of a command of docker or podman."""
    return subprocess.run(
        [RUN[0], *arguments], check=True, capture_output=True, text=True, timeout=READY_S
    ).stdout.strip()


def serves(address: str, timeout_s: float) -> bool:
    """Whether the health service answers SERVING within `timeout_s`."""
    stub, until = HealthStub(grpc.insecure_channel(address)), time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            if stub.Check(HealthCheckRequest(), timeout=5).status == HealthCheckResponse.SERVING:
                return True
        except grpc.RpcError:
            time.sleep(0.2)
    return False


@pytest.mark.parametrize("service", [name for name in ALL if name != "pipeline"])
def test_an_image_serves_and_stops(service: str) -> None:
    with started(service) as name:
        assert serves(engine("port", name, "7110"), READY_S), engine("logs", name)
        engine("stop", "--time=60", name)
        assert engine("inspect", "--format={{.State.ExitCode}}", name) == "0"


def test_the_pipelines_image_is_the_command() -> None:
    assert "usage: luthier" in output(image("pipeline"), "--help").lower()


@pytest.mark.parametrize("service", ALL)
def test_an_image_has_a_user_and_no_tools(service: str) -> None:
    script = (
        f"id -u; for tool in {TOOLS}; do command -v $tool; done; touch /app/file 2>/dev/null && echo writable; true"
    )
    assert output("--entrypoint=sh", image(service), "-c", script) == "10001"


@pytest.mark.parametrize("service", WITH_LIBFLAC)
def test_an_image_with_libflac_carries_its_licence(service: str) -> None:
    script = "cat /app/.venv/lib/python*/site-packages/luthier_music-*.dist-info/licenses/LICENSES/libFLAC-*"
    assert "Xiph.Org Foundation" in output("--entrypoint=sh", image(service), "-c", script)
