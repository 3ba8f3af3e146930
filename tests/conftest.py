"""The whole system and the stages of the way, started once for the suites that need them: tests/e2e and tests/faults.

What belongs to the system is imported when it is asked for: this file is read for every suite, in any environment.
"""

import pytest


@pytest.fixture(scope="session")
def system(tmp_path_factory):
    """Every service as its own process, started as `make up` starts them, in a home of its own."""
    from tests.system import started

    with started(tmp_path_factory.mktemp("luthier")) as system:
        yield system


@pytest.fixture(scope="session")
def folder(system):
    from tests.system import SONGS, songbook

    return songbook(system.folder / "songs", keep=SONGS)


@pytest.fixture(scope="session")
def ran(system, folder):
    return system.luthier("run", str(folder), "--collection", "way", "--licence", "Apache-2.0")


@pytest.fixture(scope="session")
def exported(system, ran):
    system.luthier("review", "--collection", "way", "--accept", "checked", "--as", "test")
    shares = ("--validation-share", "0.25", "--test-share", "0")
    return system.luthier("export", "--collection", "way", "--out", str(system.folder / "dataset"), *shares)


@pytest.fixture(scope="session")
def base(system, exported):
    return system.luthier("train", "--tiny-base", "--dataset", "way", "--name", "base", "--steps", "8")


@pytest.fixture(scope="session")
def tuned(system, base):
    more = ("--steps", "6", "--batch-size", "2", "--validate-every", "3", "--learning-rate", "0.001")
    return system.luthier("train", "--base", base["model"], "--dataset", "way", "--name", "tuned", *more)
