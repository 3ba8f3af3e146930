"""Databases, stores and clips for the tests of curation."""

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, expect, sync_playwright
from sqlalchemy import Engine, make_url

from luthier_curation.curation import Curation
from luthier_curation.cutting import Cutter
from luthier_curation.database import Repository, migrate, open_engine
from luthier_curation.embedding import Embedder
from luthier_curation.settings import CurationSettings
from luthier_curation.web.server import create_app
from luthier_kit.store import Store
from luthier_kit.web import WebServer
from tests.support.services import require_tool, temp_store

from .postgres import own_database, running_postgres

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL server: LUTHIER_TEST_POSTGRES_URL, else one that lives as long as the tests."""
    if given := os.environ.get("LUTHIER_TEST_POSTGRES_URL"):
        yield given
        return
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """Name of a migrated PostgreSQL database with nothing in it, to be copied."""
    with own_database(postgres) as url:
        engine = open_engine(url)
        migrate(engine)
        engine.dispose()
        yield str(make_url(url).database)


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database with nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("blank") / "curation.sqlite3"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, blank: Path) -> Iterator[Engine]:
    """A migrated database of its own."""
    if request.param == "sqlite":
        engine = open_engine(f"sqlite:///{shutil.copy(blank, tmp_path)}")
        yield engine
        engine.dispose()
        return
    template = request.getfixturevalue("template")
    with own_database(request.getfixturevalue("postgres"), template) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Artifacts in a folder."""
    with temp_store(tmp_path / "store") as artifacts:
        yield artifacts


@pytest.fixture
def curation(engine: Engine, store: Store) -> Iterator[Curation]:
    """Curation over this database and this store."""
    curation = Curation(Repository(engine), store)
    yield curation
    curation.batches.stop()


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """A clock for what reviews write: a second later each time that it is read; in nanoseconds."""
    ticks = count(1_800_000_000_000_000_000, 1_000_000_000)
    monkeypatch.setattr("luthier_curation.reviews.time.time_ns", lambda: next(ticks))
    return lambda: next(ticks)


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
def cutter() -> Cutter:
    """What cuts clips anew for the page: nothing, unless a test says otherwise."""
    return Cutter()


@pytest.fixture
def embedder() -> Embedder:
    """What embeds sounds for the page: nothing, unless a test says otherwise."""
    return Embedder()


@pytest.fixture
def page_url(tmp_path: Path, store: Store, blank: Path, cutter: Cutter, embedder: Embedder) -> Iterator[str]:
    """Address of a running page over an empty SQLite database."""
    engine = open_engine(f"sqlite:///{shutil.copy(blank, tmp_path / 'page.sqlite3')}")
    settings = CurationSettings(scratch=tmp_path / "scratch", web_origins=("https://luthier.example.org",))
    settings.scratch.mkdir()
    curation = Curation(Repository(engine), store, cutter, embedder)
    server = WebServer(create_app(curation, settings), "127.0.0.1:0")
    server.start()
    yield f"http://{server.address}"
    server.stop()
    curation.embedding.stop()
    engine.dispose()


@pytest.fixture
def paged(tmp_path: Path, store: Store, page_url: str) -> Curation:
    """Curation over the page's database: what the pipeline and other people do meanwhile."""
    return Curation(Repository(open_engine(f"sqlite:///{tmp_path}/page.sqlite3")), store)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    chromium = require_tool("chromium")
    expect.set_options(timeout=15_000)  # a machine that is busy; what is there is seen at once
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()
