"""The kit's README: its examples run as pasted, its tables are those of the code."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from luthier_kit.prepare import PrepareSettings
from luthier_kit.rpc import ClientSettings, LuthierError, ServiceSettings, Settings
from luthier_kit.rpc import _errors as errors
from luthier_kit.store import StoreSettings
from tests.kit.rpc.test_main import await_line
from tests.support.services import ROOT
from tests.support.stores import free_port

README = (ROOT / "services/kit/README.md").read_text()
ROWS = re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
EXAMPLE = "LUTHIER_SOURCE"  # of the first example


def variables(kind: type[Settings]) -> dict[str, object]:
    return {item.metadata["env"]: item.default for item in dataclasses.fields(kind)}


def test_every_variable_of_the_kit_is_documented_and_no_other() -> None:
    known = {
        name for kind in (ServiceSettings, ClientSettings, StoreSettings, PrepareSettings) for name in variables(kind)
    }
    assert set(re.findall(r"LUTHIER_[A-Z0-9_]+", README)) == known | {EXAMPLE}


@pytest.mark.parametrize("kind", [ServiceSettings, StoreSettings])
def test_defaults_are_those_of_the_code(kind: type[Settings]) -> None:
    documented = {name: default.strip("`") for names, default, _ in ROWS for name in re.findall(r"`(\w+)`", names)}
    for name, default in variables(kind).items():
        if name in documented and default not in ("", ()):
            number = int(default) if isinstance(default, bool | float) else default
            assert documented[name] == str(number), name


def test_every_exception_is_in_the_table_with_its_status() -> None:
    table = {name: status for names, status, _ in ROWS for name in re.findall(r"`([A-Z][A-Za-z]+)`", names)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LuthierError)]
    for kind in {*kinds} - {LuthierError, errors.Internal}:
        assert kind.code.name in table[kind.__name__], kind


def test_the_examples_of_a_service_and_of_a_client_run(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    service, client = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    own = {
        "LUTHIER_ADDRESS": address,
        "LUTHIER_METRICS_ADDRESS": "127.0.0.1:0",
        "LUTHIER_STORE_FOLDER": str(tmp_path / "store"),
    }
    command = [sys.executable, "-c", service]
    with subprocess.Popen(command, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stderr
            await_line(serving.stderr, "serving")
            program = client.replace("127.0.0.1:7103", address)
            asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            serving.terminate()
            assert serving.wait(30) == 0
        finally:
            serving.kill()
    assert asked.stdout == "SONG_UNKNOWN no song 'So What'\n"
