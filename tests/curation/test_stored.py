"""What Luthier 0.1 stored is read by today's code. The files were written by that version: stored/0.1/README.md."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1.curation_pb2 import ListClipsRequest, NewClip
from luthier_curation.clips import Identity
from luthier_curation.curation import Curation
from luthier_curation.database import Repository, migrate, open_engine
from luthier_curation.datasets import find, manifest_of
from luthier_curation.splits import Fractions
from luthier_kit.store import FolderStore, Store

from .builders import PROMPT, fingerprint

STORED = Path(__file__).parent / "stored/0.1"


@pytest.fixture
def old_database(tmp_path: Path) -> Path:
    """The database as that version left it."""
    path = tmp_path / "curation.sqlite3"
    with sqlite3.connect(path) as database:
        database.executescript((STORED / "curation.sql").read_text())
    return path


@pytest.fixture
def old(old_database: Path, tmp_path: Path) -> Curation:
    """The database and the store as that version left them, migrated."""
    shutil.copytree(STORED / "store", tmp_path / "store")
    engine = open_engine(f"sqlite:///{old_database}")
    migrate(engine)
    return Curation(Repository(engine), Store(FolderStore(tmp_path / "store", "luthier")))


def test_a_subset_that_was_named_before_there_was_a_column_is_kept(old_database: Path, tmp_path: Path) -> None:
    shutil.copytree(STORED / "store", tmp_path / "store")
    with sqlite3.connect(old_database) as database:
        [(name,)] = database.execute("SELECT clip_id FROM clips LIMIT 1").fetchall()
        solo = "UPDATE clips SET source = json_set(source, '$.subset', 'monophonic') WHERE clip_id = ?"
        database.execute(solo, [name])
    engine = open_engine(f"sqlite:///{old_database}")
    migrate(engine)
    curation = Curation(Repository(engine), Store(FolderStore(tmp_path / "store", "luthier")))
    rows = curation.page(ListClipsRequest(), 10).clips
    [moved] = [row for row in rows if row.subset == "monophonic"]
    assert (len(rows), moved.part, moved.variation) == (4, -1, 0)
    identity = Identity.of(moved.collection, moved.source)
    assert (moved.clip_id, moved.sort_key) == (identity.clip_id, identity.sort_key(moved.source.song))
    assert moved.clip_id != name
    assert curation.history(moved.clip_id)
    new = NewClip(source=moved.source, audio=moved.audio, facts=moved.facts, prompts=moved.prompts, tags=moved.tags)
    new.lineage.CopyFrom(moved.lineage)
    assert curation.upsert(moved.collection, [new])[0] == [moved.clip_id]
    new.source.subset = ""
    assert curation.upsert(moved.collection, [new])[1] == {"created": 1}


def test_clips_their_edits_and_their_history_are_there(old: Curation) -> None:
    rows = {row.song_fingerprint: row for row in old.page(ListClipsRequest(), 10).clips}
    assert set(rows) == {fingerprint(song) for song in range(4)}
    row = rows[fingerprint(0)]
    assert [prompt.text for prompt in row.prompts] == ["By hand"]
    assert row.facts.tempo == common.TempoFact(tempo_bpm=61.0, source=common.FACT_SOURCE_PERSON)
    assert row.lineage.seed == 2**63
    assert old.store.blobs.exists(row.audio)
    history = old.history(row.clip_id)
    assert [change.kind for change in history] == ["reviewed", "edited", "created"]
    assert [prompt.text for prompt in history[1].before.prompts or []] == [PROMPT]


def test_an_edit_of_then_is_undone_now(old: Curation) -> None:
    row = next(row for row in old.page(ListClipsRequest(), 10).clips if row.song_fingerprint == fingerprint(1))
    reviewed = old.history(row.clip_id)[0]
    assert old.undo(reviewed.batch_id, "Bob")[0].changed == 4
    assert old.clip(row.clip_id).verdict == "open"


def test_the_data_set_is_read_and_an_unchanged_collection_is_no_new_version(old: Curation) -> None:
    found = find(old.store, "demo", 1)
    manifest = manifest_of(old.store, found.entry)
    assert (found.entry.exported_by, found.entry.exported_at.ToDatetime().year) == ("Ada", 2026)
    assert [split.clips for split in found.entry.splits] == [3, 1, 0]
    assert {row.song_fingerprint for row in manifest.rows} == {fingerprint(song) for song in range(4)}
    again = old.export("demo", "", Fractions(), "Bob")
    assert (again.version, again.unchanged) == (1, True)
