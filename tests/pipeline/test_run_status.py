"""What parts of runs publish of themselves, what is summed from it, and what still counts as work."""

import time
from collections.abc import Callable

import pytest

from luthier.pipeline.v1.pipeline_pb2 import IngestProgress, PartProgress, ShardProgress
from luthier_kit.rpc import Unavailable, error_of
from luthier_kit.store import FolderStore, Series, Store
from luthier_pipeline import run_status
from luthier_pipeline.run_status import (
    ProgressPublisher,
    RunStatus,
    RunStatusReader,
    delete_old_runs,
    part_series,
    silent_s,
    state_name,
    timestamp,
    work_waiting,
)

NOW = 1_000_000.0
FORGET_S = 3600.0


def shard(
    index: int = 0,
    state: str = "RUNNING",
    silent: float = 0.0,
    need_render: int = 5,
    eta_s: float | None = None,
    at: float = NOW,
    run: str = "r",
) -> PartProgress:
    work = ShardProgress(shard=index, shards=4, songs=5, eta_s=10.0 * (index + 1) if eta_s is None else eta_s)
    return PartProgress(
        collection="book", run=run, part=f"{index}-of-4", state=f"PART_STATE_{state}",
        updated_at=timestamp(at - silent), corpus_songs=20, need_render=need_render, shard=work,
    )  # fmt: skip


def ingest(
    state: str = "DONE", silent: float = 0.0, submitted: bool = False, need_render: int = 0, corpus_songs: int = 0
) -> PartProgress:
    return PartProgress(
        collection="book", run="r", part="ingest", state=f"PART_STATE_{state}",
        updated_at=timestamp(NOW - silent), corpus_songs=corpus_songs, need_render=need_render,
        ingest=IngestProgress(submitted=submitted),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ingested", "shards", "waiting"),
    [
        (None, [shard(i) for i in range(4)], 20),
        (None, [shard(0)], 20),  # three have not begun
        (None, [shard(i, "DONE", need_render=0) for i in range(4)], 0),
        (None, [shard(0), *(shard(i, "DONE", need_render=0) for i in (1, 2, 3))], 5),
        (None, [shard(0, silent=600), *(shard(i, "DONE") for i in (1, 2, 3))], 5),  # its Pod died: the Job replaces it
        (None, [shard(0, silent=4000), *(shard(i, "DONE") for i in (1, 2, 3))], 0),  # abandoned
        (None, [shard(i, "INTERRUPTED") for i in range(4)], 0),
        (ingest("RUNNING", need_render=7), [], 7),
        (ingest("RUNNING", need_render=7, silent=4000), [], 0),
        (ingest(submitted=True, corpus_songs=20), [], 20),  # its shards come
        (ingest(submitted=True, corpus_songs=20, silent=4000), [], 0),
        (ingest(submitted=False, corpus_songs=20), [], 0),  # somebody wanted a manifest
        (ingest("FAILED", submitted=True), [], 0),
    ],
)
def test_what_still_needs_a_render_worker(
    ingested: PartProgress | None, shards: list[PartProgress], waiting: int
) -> None:
    assert work_waiting(RunStatus("book", "r", ingested, shards), FORGET_S, NOW) == waiting


def test_the_run_is_done_with_its_slowest_shard() -> None:
    assert RunStatus("book", "r", None, [shard(0), shard(3), shard(1, "DONE", eta_s=99.0)]).eta_s == 40


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["DONE"] * 4, "DONE"),
        (["DONE"] * 3, "WAITING"),
        (["DONE", "RUNNING", "FAILED", "DONE"], "RUNNING"),
        (["DONE", "FAILED", "INTERRUPTED", "DONE"], "FAILED"),
        (["DONE", "INTERRUPTED"], "INTERRUPTED"),
    ],
)
def test_the_state_of_a_run(states: list[str], state: str) -> None:
    assert RunStatus("book", "r", ingest(), [shard(i, s) for i, s in enumerate(states)]).state == state


def test_a_shard_is_silent_only_while_it_should_report() -> None:
    assert silent_s(shard(silent=59), NOW) == 0
    assert silent_s(shard(silent=61), NOW) == 61
    assert silent_s(shard(state="DONE", silent=9999), NOW) == 0


def test_only_what_is_new_is_read_and_old_runs_are_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for run, at in (("old", NOW), ("new", NOW + 1)):
        part_series(store, "book", run, "0-of-4").append(shard(0, "DONE", run=run, at=at))
    reader, reads, get = RunStatusReader(store), list[str](), store.objects.get

    def counted(key: str, max_bytes: int) -> bytes | None:
        reads.append(key)
        return get(key, max_bytes)

    monkeypatch.setattr(store.objects, "get", counted)
    assert [run.name for run in reader.runs()] == ["new", "old"]
    reader.runs()
    assert len(reads) == 2
    part_series(store, "book", "new", "0-of-4").append(shard(0, run="new", at=time.time()))
    delete_old_runs(store, "book", keep="third")
    assert [run.name for run in reader.runs()] == ["new"]


def test_a_run_counts_as_it_was_split_last(store: Store) -> None:
    for part in (shard(0, "INTERRUPTED"), shard(1, "INTERRUPTED")):
        part_series(store, "book", "r", part.part).append(part)
    again = shard(0, at=NOW + 10)
    again.part, again.shard.shards = "0-of-1", 1
    part_series(store, "book", "r", again.part).append(again)
    [run] = RunStatusReader(store).runs("book")
    assert [part.part for part in run.shards] == ["0-of-1"]


@pytest.mark.parametrize(("shards", "every_s"), [(0, 4.0), (200, 4.0), (500, 10.0), (1000, 20.0), (10_000, 20.0)])
def test_the_more_shards_the_seldomer_each_says_where_it_is(shards: int, every_s: float) -> None:
    assert run_status.publish_every_s(shards) == every_s


PART = PartProgress(collection="book", run="r", part="0-of-1", shard=ShardProgress(shards=1, songs=3))


@pytest.fixture
def series(store: Store, monkeypatch: pytest.MonkeyPatch) -> Series[PartProgress]:
    monkeypatch.setattr(run_status, "PUBLISH_EVERY_S", 0.02)
    return part_series(store, "book", "r", "0-of-1")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def newest(series: Series[PartProgress]) -> tuple[int, PartProgress]:
    return series.latest() or (0, PartProgress())


def rendered(songs: int) -> PartProgress:
    part = PartProgress()
    part.CopyFrom(PART)
    part.shard.rendered = songs
    return part


def test_a_part_says_where_it_is_and_leaves_no_heap(store: Store, series: Series[PartProgress]) -> None:
    with ProgressPublisher(store, PART) as publisher:
        until(lambda: state_name(newest(series)[1].state) == "RUNNING")
        publisher.update(rendered(2))
        until(lambda: newest(series)[1].shard.rendered == 2 and newest(series)[0] > 5)
        assert len(list(store.objects.keys(f"{series.name}/"))) <= 3
        publisher.finish(rendered(3))
    number, part = newest(series)
    assert (state_name(part.state), part.shard.rendered, part.shard.songs) == ("DONE", 3, 3)
    time.sleep(0.1)
    assert newest(series)[0] == number


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), ("INTERRUPTED", "")),
        (Unavailable("away", reason="UNREACHABLE"), ("FAILED", "UNREACHABLE: away")),
        (ZeroDivisionError(), ("FAILED", "INTERNAL: ZeroDivisionError")),
    ],
)
def test_a_part_says_why_it_ended(
    store: Store, series: Series[PartProgress], error: Exception, said: tuple[str, str]
) -> None:
    with pytest.raises(type(error)), ProgressPublisher(store, PART):
        raise error
    part = newest(series)[1]
    why = error_of(part.error) if part.HasField("error") else None
    assert (state_name(part.state), f"{why.reason}: {why}" if why else "") == said


def test_a_store_that_is_down_stops_nothing(store: Store, series: Series[PartProgress]) -> None:
    assert isinstance(store.objects, FolderStore)
    folder = store.objects._folder
    with ProgressPublisher(store, PART) as publisher:
        until(lambda: newest(series)[0])
        folder.rename(folder.with_name("gone"))
        time.sleep(0.1)
        folder.with_name("gone").rename(folder)
        publisher.finish(PART)
    assert state_name(newest(series)[1].state) == "DONE"
