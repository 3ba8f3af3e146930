"""promtool, which tells whether Prometheus takes rules and queries."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from luthier_kit.testing import require_tool

Promtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def promtool() -> Promtool:
    """Runs promtool with these words."""
    program = require_tool("promtool")

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *words], capture_output=True, text=True, check=False)

    return run
