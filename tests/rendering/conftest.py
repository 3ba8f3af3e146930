"""What rendering tests share."""

import socket
from pathlib import Path

import numpy as np
import pytest

from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.backends.soundfont import SoundFontBackend, open_backend


@pytest.fixture(scope="session")
def soundfont() -> SoundFontBackend:
    """The packaged SoundFont."""
    return open_backend(BackendConfig())


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty folder for a render."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def _no_numpy_surprises() -> None:
    """A division by zero or an invalid number is an error in tests."""
    np.seterr(divide="raise", invalid="raise")


@pytest.fixture
def unused_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
