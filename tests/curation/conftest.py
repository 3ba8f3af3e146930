"""Databases, stores and clips for the tests of curation."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sqlalchemy import Engine, make_url, text

from luthier_curation.curation import Curation
from luthier_curation.database import migrate, open_engine
from luthier_curation.repository import Repository
from luthier_kit.artifacts import Artifacts
from luthier_kit.testing import temp_store


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A migrated database of its own; PostgreSQL where LUTHIER_TEST_POSTGRES_URL names a server."""
    if request.param == "sqlite":
        engine = open_engine(f"sqlite:///{tmp_path}/curation.sqlite3")
        migrate(engine)
        yield engine
        engine.dispose()
        return
    server = os.environ.get("LUTHIER_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("LUTHIER_TEST_POSTGRES_URL names no PostgreSQL server")
    name = f"curation_{uuid.uuid4().hex}"
    admin = open_engine(server).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = open_engine(make_url(server).set(database=name).render_as_string(hide_password=False))
    migrate(engine)
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Artifacts]:
    """Artifacts in a folder."""
    with temp_store(tmp_path / "store") as artifacts:
        yield artifacts


@pytest.fixture
def curation(engine: Engine, store: Artifacts) -> Curation:
    """Curation over this database and this store."""
    return Curation(Repository(engine), store)


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight two-second FLAC clips, stereo at 44.1 kHz: a tone each, half as loud in its second half."""
    folder = tmp_path_factory.mktemp("tones")
    seconds = np.arange(2 * 44_100) / 44_100
    paths = []
    for index in range(8):
        tone = 0.8 * np.sin(2 * np.pi * 220 * 2 ** (index / 12) * seconds)
        tone[44_100:] /= 2
        paths.append(folder / f"{index}.flac")
        soundfile.write(paths[-1], np.stack([tone, tone], axis=1), 44_100, subtype="PCM_16")
    return paths
