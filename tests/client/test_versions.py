"""The wheel on the oldest and the newest gRPC and protobuf that it says it runs with, against a real server."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.client.test_examples import EXAMPLES
from tests.support.programs import ROOT, Program

pytestmark = pytest.mark.slow
UV = next((path for path in (ROOT / ".tools/bin/uv",) if path.exists()), Path("uv"))
VERSIONS = {
    "oldest": ["grpcio==1.49.1", "protobuf==3.20.2"],
    "first of upb": ["grpcio==1.49.1", "protobuf==4.21.0"],
    "newest": ["grpcio", "protobuf"],
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([UV, "build", "--quiet", "--wheel", "-o", out, ROOT / "services/client"], check=True)
    return next(out.glob("*.whl"))


@pytest.mark.parametrize("versions", VERSIONS.values(), ids=VERSIONS)
@pytest.mark.parametrize(
    "example", ["generate.py", "stream_to_file.py", "errors.py", "cancel.py", "asyncio_several.py"]
)
def test_examples_run_with_the_wheel(
    server: Program, wheel: Path, tmp_path: Path, versions: list[str], example: str
) -> None:
    asked: list[str] = [part for each in (str(wheel), *versions) for part in ("--with", each)]
    command = [
        str(UV),
        "run",
        "--quiet",
        "--no-project",
        "--isolated",
        "--python",
        "3.11",
        *asked,
        "python",
        "-W",
        "error",
    ]
    kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}

    done = subprocess.run(
        [*command, str(EXAMPLES / example), server.address],
        cwd=tmp_path,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_lower_bounds_are_those_that_are_tested() -> None:
    declared = (ROOT / "services/client/pyproject.toml").read_text()

    assert 'dependencies = ["grpcio>=1.49.1", "protobuf>=3.20.2"]' in declared
