"""A repository of tiny services in a temporary folder; what starts there is ended with the test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier_local.services import SERVICES

sys.path.insert(0, str(Path(__file__).parent))

from checkout import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    root = tmp_path / "a checkout"
    for service in SERVICES:
        python = root / "services" / service.name / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        tiny = Path(__file__).with_name("tiny_service.py")
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tiny}"\n')
        python.chmod(0o755)
    made = Installation(root)
    yield made
    made.kill()
