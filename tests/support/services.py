"""Helpers for tests: a service in this process, a store in a folder, tools that may be missing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from luthier_kit.rpc import Server, Service, ServiceSettings
from luthier_kit.store import Store, StoreSettings, open_store

ROOT = Path(__file__).resolve().parents[2]  # pytest may import this file as tests/../tests/support


@contextmanager
def running(service: Service, settings: ServiceSettings | None = None) -> Iterator[str]:
    """Serves on a free loopback port; yields host:port."""
    server = Server(service, settings or ServiceSettings(address="127.0.0.1:0"))
    server.start()
    try:
        yield server.address
    finally:
        server.stop(grace_s=0)


@contextmanager
def temp_store(folder: Path) -> Iterator[Store]:
    """Artifacts in a folder of the test."""
    yield open_store(StoreSettings(store="folder", store_folder=folder))


def missing(what: str) -> None:
    """Skips the test for a missing tool; with CI=true that is a failure."""
    import pytest

    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{what} is missing; CI must bring it")
    pytest.skip(f"{what} is missing")


def require_tool(name: str) -> Path:
    """The path of a program: from LUTHIER_<NAME>, .tools/bin or PATH; skips (fails in CI) when absent."""
    candidates = [os.environ.get(f"LUTHIER_{name.upper()}"), ROOT / ".tools/bin" / name, shutil.which(name)]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return Path(candidate)
    missing(name)
    raise AssertionError


def shared(*parts: str) -> Path:
    """A file or folder of the founders' shared folder beside the project; skips where a user's clone has none."""
    import pytest

    path = ROOT.parent.joinpath("shared", *parts)
    if not path.exists():
        pytest.skip(f"no shared folder with {'/'.join(parts)} beside the project")
    return path
