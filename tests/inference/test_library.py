"""stable-audio-tools as the model code imports it."""

import subprocess
import sys

import pytest

CODE = """
import luthier_model.library, sys
print("torch._dynamo" in sys.modules)
import torch
print(torch._dynamo.config.suppress_errors)
"""


@pytest.fixture(scope="module")
def told() -> list[str]:
    """Whether the compiler is loaded by a new interpreter, then whether its errors are hidden."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split()[-2:]


def test_the_library_does_not_load_the_compiler(told: list[str]) -> None:
    assert told[0] == "False"


def test_the_library_does_not_hide_what_the_compiler_could_not_do(told: list[str]) -> None:
    assert told[1] == "False"
