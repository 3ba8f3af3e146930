"""The whole system and what it makes of the songbook, once for the suites that need them: tests/e2e and tests/faults.

The system is imported inside its fixtures: this file is read for every suite, in any environment.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.system import System

Answer = dict[str, Any]
"""What a command of `luthier` answers with --json."""


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[System]":
    """Every service as its own process, started as `make up` starts them, in a home of its own."""
    from tests.system import started

    with started(tmp_path_factory.mktemp("luthier")) as system:
        yield system


@pytest.fixture(scope="session")
def folder(system: "System") -> Path:
    from tests.system import SONGS, songbook

    return songbook(system.folder / "songs", keep=SONGS)


@pytest.fixture(scope="session")
def ran(system: "System", folder: Path) -> Answer:
    return system.luthier("run", str(folder), "--collection", "way", "--licence", "Apache-2.0")


@pytest.fixture(scope="session")
def exported(system: "System", ran: Answer) -> Answer:
    system.luthier("review", "--collection", "way", "--accept", "checked", "--as", "test")
    shares = ("--validation-share", "0.25", "--test-share", "0")
    return system.luthier("export", "--collection", "way", "--out", str(system.folder / "dataset"), *shares)


@pytest.fixture(scope="session")
def base(system: "System", exported: Answer) -> Answer:
    return system.luthier("train", "--tiny-base", "--dataset", "way", "--name", "base", "--steps", "8")


@pytest.fixture(scope="session")
def tuned(system: "System", base: Answer) -> Answer:
    more = ("--steps", "6", "--batch-size", "2", "--validate-every", "3", "--learning-rate", "0.001")
    return system.luthier("train", "--base", base["model"], "--dataset", "way", "--name", "tuned", *more)
