"""promtool, Prometheus' own check of rules and queries."""

import subprocess
from pathlib import Path

import pytest

from tests.operations.queries import Promtool
from tests.support.services import require_tool


@pytest.fixture
def promtool() -> Promtool:
    """Runs promtool with these arguments."""
    program = require_tool("promtool")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)

    return run
