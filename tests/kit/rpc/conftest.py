"""A server, and a channel to it."""

from collections.abc import Iterator

import pytest

from luthier_kit.rpc import Channel, Server
from tests.kit.rpc.serving import Analysis, calling, serving


@pytest.fixture
def servicer() -> Analysis:
    return Analysis()


@pytest.fixture
def server(servicer: Analysis) -> Iterator[Server]:
    with serving(servicer, slots=2, grace_s=5) as server:
        yield server


@pytest.fixture
def channel(server: Server) -> Iterator[Channel]:
    with calling(server) as channel:
        yield channel


@pytest.fixture
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed files are seen by the next call, not after a second."""
    monkeypatch.setattr("luthier_kit.rpc._reread.LOOK_EVERY_S", 0.0)
