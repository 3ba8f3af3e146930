"""The lineage index on disk: what it reads again, and what becomes of it when it is damaged."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1.evaluation_pb2 import RowResult
from luthier_kit.registry import RunLog
from luthier_kit.store import Action, FolderStore, Store
from luthier_pipeline.lineage import LineageIndex, lineage_of, open_index
from tests.pipeline.filled_store import TRAINING, FilledStore, reach


def read_by(store: Store, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the documents that something reads."""
    assert isinstance(store.objects, FolderStore)
    keys: list[str] = []
    get, chunks = FolderStore.get, FolderStore.chunks

    def got(self: FolderStore, key: str, most: int) -> bytes | None:
        keys.append(key)
        return get(self, key, most)

    def read(self: FolderStore, key: str) -> Iterator[bytes]:
        keys.append(key)
        return chunks(self, key)

    monkeypatch.setattr(FolderStore, "get", got)
    monkeypatch.setattr(FolderStore, "chunks", read)
    do()
    monkeypatch.undo()
    return keys


def told(index: LineageIndex, filled: FilledStore) -> tuple[object, ...]:
    """What an index answers of a filled store."""
    return (
        reach(index, filled.midi[0].sha256).document(),
        reach(index, filled.base.checkpoint.sha256).document(),
        lineage_of(index, filled.audio.sha256).document(),
        index.resolve("Artist/Song 1.mid"),
    )


def test_an_index_that_is_opened_again_reads_no_document_and_answers_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = FilledStore(store)
    path = tmp_path / "index.sqlite3"
    first = told(LineageIndex(store, path), filled)
    assert read_by(store, lambda: LineageIndex(store, path), monkeypatch) == []
    assert told(LineageIndex(store, path), filled) == first == told(LineageIndex(store), filled)


def test_only_what_is_new_is_read(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = FilledStore(store)
    index = LineageIndex(store, tmp_path / "index.sqlite3")
    clip = filled.cut(filled.mixes[0])
    read = read_by(store, index.update, monkeypatch)
    assert read == []  # the same record: nothing was written
    silence = filled.blob("clips", "another")
    mix = filled.render(silence)
    read = read_by(store, index.update, monkeypatch)
    assert [key.partition("/")[0] for key in read] == ["actions"]
    assert mix.key in reach(index, silence.sha256).derived.values()
    assert clip.key in reach(index, filled.midi[0].sha256).derived.values()


def test_of_a_run_the_newest_entry_counts(store: Store, tmp_path: Path) -> None:
    filled = FilledStore(store)
    index = LineageIndex(store, tmp_path / "index.sqlite3")
    request = RunLog(store, TRAINING, filled.run_id).read().request
    request.request_id = "another"
    log = RunLog.create(store, TRAINING, "another", request)
    index.update()
    assert set(reach(index, filled.midi[0].sha256).runs) == {filled.run_id, log.id}
    own = RunLog(store, TRAINING, log.id, "runner")
    own.start()
    index.update()
    assert [step.state for step in index.named(log.id)] == ["RUNNING"]
    assert set(reach(index, filled.midi[0].sha256).runs) == {filled.run_id, log.id}


def test_what_is_deleted_is_forgotten(store: Store, tmp_path: Path) -> None:
    filled = FilledStore(store)
    path = tmp_path / "index.sqlite3"
    assert LineageIndex(store, path).blob(filled.audio.sha256) == filled.audio.key
    store.objects.delete(filled.audio.key)
    index = LineageIndex(store, path)
    assert index.blob(filled.audio.sha256) == ""
    assert filled.audio.key not in reach(index, filled.midi[0].sha256).generated


@pytest.mark.parametrize("damage", ["text", "cut", "other version", "empty"])
def test_a_damaged_index_is_made_anew(store: Store, tmp_path: Path, damage: str) -> None:
    filled = FilledStore(store)
    path = tmp_path / "index.sqlite3"
    index = LineageIndex(store, path)
    first = told(index, filled)
    if damage == "other version":
        index._database.execute("PRAGMA user_version = 99")
    index.close()
    whole = path.read_bytes()
    if damage != "other version":
        path.write_bytes({"text": b"no database", "cut": whole[: len(whole) // 2], "empty": b""}[damage])
    assert told(LineageIndex(store, path), filled) == first


def test_a_store_that_was_brought_back_as_it_was_before_is_read_anew(store: Store, tmp_path: Path) -> None:
    filled = FilledStore(store)
    path = tmp_path / "index.sqlite3"
    first = told(LineageIndex(store, path), filled)
    mix = filled.render(filled.blob("midi", "a later song", "mid"))
    index = LineageIndex(store, path)
    [[record]] = index.makers([mix.sha256]).values()
    store.objects.delete(record.name)
    index.update()
    assert index.makers([mix.sha256]) == {mix.sha256: []}
    assert told(index, filled) == first


def test_each_store_has_an_index_of_its_own_that_others_cannot_read(store: Store, tmp_path: Path) -> None:
    FilledStore(store)
    other = Store(FolderStore(tmp_path / "other", "luthier"))
    for one in (store, other):
        one.prove(create_bucket=True)
        open_index(one, {"LUTHIER_CACHE": str(tmp_path / "cache")}, lambda _: None).close()
    files = [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".sqlite3"]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_where_no_file_can_be_written_the_index_is_made_in_memory_and_that_is_said(
    store: Store, tmp_path: Path
) -> None:
    filled = FilledStore(store)
    (tmp_path / "file").write_text("")
    said: list[str] = []
    index = open_index(store, {"LUTHIER_CACHE": str(tmp_path / "file" / "cache")}, said.append)
    assert reach(index, filled.midi[0].sha256).datasets == ["way@1"]
    assert "LUTHIER_CACHE" in said[0]


def test_audio_that_expired_is_said_so_in_its_lineage(store: Store) -> None:
    filled = FilledStore(store)
    store.objects.delete(filled.audio.key)
    store.objects.delete(filled.mixes[0].key)
    store.blobs.take_down(filled.mixes[1].sha256, by="ann", reason="claim 7")
    store.objects.delete(filled.mixes[1].key)
    graph = lineage_of(LineageIndex(store), filled.audio.sha256)
    nodes: Any = graph.document()["nodes"]
    states = {node["name"]: node.get("state", "") for node in nodes if node["kind"] == "blob"}
    digests = (filled.audio.sha256, filled.mixes[0].sha256, filled.mixes[1].sha256, filled.clips[0].sha256)
    assert [states[digest] for digest in digests] == ["expired", "deleted", "taken down", ""]
    assert "  expired" in graph.tree().splitlines()[0]


def test_what_was_taken_down_is_said_so_while_its_bytes_are_still_there(store: Store) -> None:
    filled = FilledStore(store)
    store.blobs.take_down(filled.mixes[1].sha256, by="ann", reason="claim 7")
    graph = lineage_of(LineageIndex(store), filled.audio.sha256)
    (told,) = [line for line in graph.tree().splitlines() if filled.mixes[1].key in line]
    assert "taken down" in told


def test_what_an_action_only_heard_is_not_made_by_it(store: Store) -> None:
    """An evaluation's row names the audio that it measured, of an audio set a file that was there before."""
    filled = FilledStore(store)
    heard = filled.mixes[0]
    before = LineageIndex(store).makers([heard.sha256])
    store.actions.run(Action("evaluation-row", [heard.sha256]), RowResult, lambda: RowResult(audio=heard))
    assert LineageIndex(store).makers([heard.sha256]) == before


def test_what_expired_is_made_again_when_it_is_asked_for(store: Store) -> None:
    filled = FilledStore(store)
    store.objects.delete(filled.audio.key)
    again: ArtifactRef = filled.generate("A rock song")
    assert again == filled.audio
    assert store.blobs.read(again)
    assert lineage_of(LineageIndex(store), again.sha256).nodes[again.sha256].state == ""
