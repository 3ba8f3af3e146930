"""What is summed from what the parts of a run say, and what still counts as work."""

import time

import pytest

from luthier_kit.artifacts import open_artifacts
from luthier_kit.settings import StoreSettings
from luthier_pipeline.board import Board, Run, silent_s, sweep, work_waiting
from luthier_pipeline.diary import series_of

NOW = 1_000_000.0
FORGET_S = 3600.0


def shard(index=0, state="RUNNING", silent=0.0, **numbers):
    told = {"need_render": 5, "songs": 5, "corpus_songs": 20, "shards": 4, "eta_s": 10.0 * (index + 1), **numbers}
    return {"part": f"{index}-of-4", "shard": index, "state": state, "at": NOW - silent, **told}


def ingest(state="DONE", silent=0.0, **numbers):
    return {"part": "ingest", "state": state, "at": NOW - silent, **numbers}


@pytest.mark.parametrize(
    ("told", "shards", "waiting"),
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
def test_what_still_needs_a_render_worker(told, shards, waiting):
    assert work_waiting(Run("book", "r", told, shards), FORGET_S, NOW) == waiting


def test_the_run_is_done_with_its_slowest_shard():
    assert Run("book", "r", None, [shard(0), shard(3), shard(1, "DONE", eta_s=99.0)]).eta_s == 40


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
def test_the_state_of_a_run(states, state):
    assert Run("book", "r", ingest(), [shard(i, s) for i, s in enumerate(states)]).state == state


def test_a_shard_is_silent_only_while_it_should_talk():
    assert silent_s(shard(silent=59), NOW) == 0
    assert silent_s(shard(silent=61), NOW) == 61
    assert silent_s(shard(state="DONE", silent=9999), NOW) == 0


def test_the_board_reads_only_what_is_new_and_old_runs_are_swept(tmp_path):
    store = open_artifacts(StoreSettings(store_folder=tmp_path))
    for run, at in (("old", NOW), ("new", NOW + 1)):
        document = {**shard(0, "DONE"), "collection": "book", "run": run, "at": at}
        store.append(series_of("book", run, "0-of-4"), document)
    board, reads, entry = Board(store), [], store.entry
    store.entry = lambda *asked: reads.append(asked) or entry(*asked)
    assert [run.name for run in board.runs()] == ["new", "old"]
    board.runs()
    assert len(reads) == 2
    store.append(
        series_of("book", "new", "0-of-4"), {**shard(0), "collection": "book", "run": "new", "at": time.time()}
    )
    sweep(store, "book", keep="third")
    assert [run.name for run in board.runs()] == ["new"]
