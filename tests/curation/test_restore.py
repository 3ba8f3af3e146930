"""What docs/operations.md does: a dump of the database and a copy of the bucket, in another installation, give the same
answers; and a schema goes back to the one of the last release and forward again with its data."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, make_url, text

from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1.curation_pb2 import ClipFilter, ListClipsRequest
from luthier_curation.curation import Curation
from luthier_curation.database import MIGRATIONS, Repository, head_revision, migrate, open_engine, schema_revision
from luthier_curation.reviews import Edit
from luthier_curation.service import curated_clip
from luthier_curation.splits import Fractions
from luthier_curation.tables import ACCEPTED, REJECTED
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import NotFound
from luthier_kit.store import FolderStore, Store

from .builders import clip
from .postgres import own_database, program

SHARES = Fractions.holding_out(0.2, 0.2)
RELEASES = {"0.1.0": "0001"}
"""The newest migration of each release."""


@pytest.fixture
def used(curation: Curation) -> Curation:
    """Clips of six songs, judged and edited by people, one frozen as a data set, one taken down."""
    clips = [clip(curation.store, b"fLaC %d" % song, song=song) for song in range(6)]
    ids, *_ = curation.upsert("demo", clips)
    curation.review_all(ClipFilter(collection="demo"), Decision(ACCEPTED, "Ada", rating=4))
    curation.edit(ids[0], 2, "Bob", Edit(prompts=["By hand"], remark="the title was wrong"))
    curation.review({ids[1]: 2}, Decision(REJECTED, "Bob", remark="clipped"))
    curation.export("demo", "", SHARES, "Ada")
    curation.store.blobs.take_down(clips[2].audio.sha256, by="Ada", reason="claim 7")
    return curation


def clips_of(curation: Curation) -> list[pb.CuratedClip]:
    rows = curation.page(ListClipsRequest(), 100).clips
    return sorted((curated_clip(row) for row in rows), key=lambda one: one.clip_id)


def answers(curation: Curation) -> tuple[object, ...]:
    """All that people decided, and the data set that it gives."""
    listed = clips_of(curation)
    histories = [
        [(change.kind, change.who, change.revision, change.at_ms) for change in curation.history(one.clip_id)]
        for one in listed
    ]
    export = curation.export("demo", "", SHARES, "Ada")
    return listed, histories, curation.collections(), export.version, export.entry.manifest.sha256


@pytest.fixture
def restored(used: Curation, engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Curation]:
    """Another installation: the database from its dump first, then the bucket from its copy."""
    if engine.dialect.name == "postgresql":
        dump, url = tmp_path / "curation.dump", make_url(engine.url).set(drivername="postgresql")
        with own_database(request.getfixturevalue("postgres")) as other:
            name, place = f"--dbname={url.render_as_string(hide_password=False)}", make_url(other)
            subprocess.run([program("pg_dump"), "--format=custom", f"--file={dump}", name], check=True)
            into = f"--dbname={place.set(drivername='postgresql').render_as_string(hide_password=False)}"
            words = ["--clean", "--if-exists", "--no-owner", into, str(dump)]
            subprocess.run([program("pg_restore"), *words], check=True)
            yield from copied(used, open_engine(other), tmp_path)
    else:
        path = tmp_path / "restored.sqlite3"
        with (
            closing(sqlite3.connect(str(engine.url.database))) as source,
            closing(sqlite3.connect(path)) as target,
        ):
            source.backup(target)
        yield from copied(used, open_engine(f"sqlite:///{path}"), tmp_path)


def copied(used: Curation, engine: Engine, folder: Path) -> Iterator[Curation]:
    objects = used.store.objects
    assert isinstance(objects, FolderStore)
    shutil.copytree(objects.root, folder / "copy")
    migrate(engine)
    yield Curation(Repository(engine), Store(FolderStore(folder / "copy", objects.bucket)))
    engine.dispose()


def test_a_restored_installation_gives_the_same_answers(used: Curation, restored: Curation) -> None:
    before = answers(used)
    assert answers(restored) == before
    assert len(clips_of(restored)) == 6


def test_a_takedown_is_honoured_in_a_restored_installation(restored: Curation) -> None:
    down = [
        one for one in clips_of(restored) if restored.store.tombstones.names(restored.store.objects, one.audio.sha256)
    ]
    assert len(down) == 1
    with pytest.raises(NotFound, match="taken down"):
        restored.store.blobs.read(down[0].audio)


def test_a_restored_installation_goes_on(used: Curation, restored: Curation) -> None:
    """What is written there follows what was, and changes nothing here."""
    before, first = clips_of(used), clips_of(restored)[0]
    edited, _ = restored.edit(first.clip_id, first.revision, "Cal", Edit(prompts=["After the restore"]))
    assert edited.revision == first.revision + 1
    restored.upsert("demo", [clip(restored.store, b"fLaC new", song="new")])
    assert restored.export("demo", "", SHARES, "Ada").version == 2
    assert clips_of(used) == before


@pytest.mark.parametrize("release", RELEASES)
def test_the_schema_goes_back_to_a_release_and_forward_again_with_its_data(used: Curation, release: str) -> None:
    """What the release has columns for comes through; of opinions and ratings it has none."""
    engine = used.repository.engine
    before = [kept(one) for one in clips_of(used)]
    histories = [len(used.history(one.clip_id)) for one in clips_of(used)]
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, RELEASES[release])
    assert schema_revision(engine) == RELEASES[release]
    with engine.connect() as connection:
        verdicts = connection.execute(text("SELECT verdict, count(*) FROM clips GROUP BY verdict ORDER BY verdict"))
        assert [tuple(row) for row in verdicts] == [(ACCEPTED, 5), (REJECTED, 1)]
    migrate(engine)
    assert schema_revision(engine) == head_revision()
    assert [kept(one) for one in clips_of(used)] == before
    assert [len(used.history(one.clip_id)) for one in clips_of(used)] == histories


def kept(one: pb.CuratedClip) -> pb.CuratedClip:
    """A clip without what 0.1.0 has no columns for; when it was made is then told by its first change, ms later."""
    rest = pb.CuratedClip()
    rest.CopyFrom(one)
    for name in ("rating", "reason", "opinions", "conflict", "bad_passages", "created_at"):
        rest.ClearField(name)
    return rest
