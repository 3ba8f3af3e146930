"""Every service as its own process, started as `make up` starts them, in a home of its own."""

import pytest

from tests.system import System, started


@pytest.fixture(scope="session")
def system(tmp_path_factory) -> System:
    with started(tmp_path_factory.mktemp("luthier")) as system:
        yield system
