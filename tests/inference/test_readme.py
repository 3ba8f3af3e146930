"""The clients in the README run as they stand, in a process of their own that knows only grpcio and the stubs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Served

README = Path(__file__).parents[2] / "services/inference/README.md"
CLIENTS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("client", CLIENTS, ids=["unary", "stream"])
def test_a_client_by_copy_and_paste_gets_its_audio(served: Served, client: str, tmp_path: Path) -> None:
    # the tiny test model is quick and its window short: the only things that are changed
    code = client.replace("127.0.0.1:7107", served.address).replace("seconds_total=10", "seconds_total=3")
    code = code.replace("seed=1", "seed=1, steps=3")

    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)

    assert (tmp_path / "calm.flac").read_bytes()[:4] == b"fLaC"


def test_the_client_is_ten_lines() -> None:
    assert len([line for line in CLIENTS[0].splitlines() if line.strip()]) == 10
