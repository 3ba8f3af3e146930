"""Databases, stores and clips for the tests of curation."""

import os
import shutil
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
from luthier_curation.settings import CurationSettings
from luthier_curation.web.app import create_app
from luthier_curation.web.server import WebServer
from luthier_kit.artifacts import Artifacts
from luthier_kit.testing import temp_store

POSTGRES = os.environ.get("LUTHIER_TEST_POSTGRES_URL", "")


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database with nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("blank") / "curation.sqlite3"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def engine(request: pytest.FixtureRequest, tmp_path: Path, blank: Path) -> Iterator[Engine]:
    """A migrated database of its own; PostgreSQL where LUTHIER_TEST_POSTGRES_URL names a server."""
    if request.param == "sqlite":
        engine = open_engine(f"sqlite:///{shutil.copy(blank, tmp_path)}")
        yield engine
        engine.dispose()
        return
    name = f"curation_{uuid.uuid4().hex}"
    admin = open_engine(POSTGRES).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = open_engine(make_url(POSTGRES).set(database=name).render_as_string(hide_password=False))
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


@pytest.fixture
def page_url(tmp_path: Path, store: Artifacts, blank: Path) -> Iterator[str]:
    """Address of a running page over an empty SQLite database."""
    engine = open_engine(f"sqlite:///{shutil.copy(blank, tmp_path / 'page.sqlite3')}")
    settings = CurationSettings(scratch=tmp_path / "scratch", web_origins=("https://luthier.example.org",))
    settings.scratch.mkdir()
    server = WebServer(create_app(Curation(Repository(engine), store), settings), "127.0.0.1:0")
    server.start()
    yield f"http://{server.address}"
    server.stop()
    engine.dispose()


@pytest.fixture
def paged(tmp_path: Path, store: Artifacts, page_url: str) -> Curation:
    """Curation over the page's database: what the pipeline and other people do meanwhile."""
    return Curation(Repository(open_engine(f"sqlite:///{tmp_path}/page.sqlite3")), store)
