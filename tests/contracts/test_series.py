"""Conditional creates and series, the same in a folder and in S3: of racing writers one wins."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier.training.v1.training_pb2 import LossPoint
from luthier_kit.rpc import Unavailable
from luthier_kit.store import MARK_KEY, Endpoint, Store
from tests.support.stores import OpenStore, race_to_create


def test_of_sixteen_racing_threads_one_wins(store: Store) -> None:
    start = threading.Barrier(16)

    def create(racer: int) -> bool:
        start.wait()
        return store.objects.create("actions/race/x.json", b"%d" % racer)

    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            won = list(pool.map(create, range(16)))
            assert sum(won) == 1
            assert store.objects.get("actions/race/x.json", 10) == b"%d" % won.index(True)
            store.objects.delete("actions/race/x.json")


def test_of_sixteen_racing_writers_in_four_processes_one_wins(
    where: Endpoint | Path, bucket: str, store: Store
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.stores"])
    start, results = context.Barrier(4), context.Queue()
    arguments = (where, bucket, "actions/race/x.json", start, results)
    racers = [context.Process(target=race_to_create, args=arguments) for _ in range(4)]
    for racer in racers:
        racer.start()
    won = [wins for _ in racers for wins in results.get(timeout=60)]
    for racer in racers:
        racer.join()
    assert len(won) == 16
    assert sum(won) == 1


def test_the_start_up_proof_passes_and_leaves_the_mark_alone(store: Store) -> None:
    store.prove(create_bucket=False)
    assert list(store.objects.keys("proofs/")) == [MARK_KEY]


def test_a_missing_bucket_is_created_only_when_asked(open_store: OpenStore, bucket: str) -> None:
    store = open_store(f"{bucket}-new")
    with pytest.raises(Unavailable) as caught:
        store.prove(create_bucket=False)
    assert caught.value.reason == "STORE_BUCKET_MISSING"
    store.prove(create_bucket=True)
    store.prove(create_bucket=True)


def test_a_series_is_numbered_from_one_and_its_newest_is_the_state(store: Store) -> None:
    series = store.series(LossPoint, "runs/a")
    assert series.latest() is None
    assert [series.append(LossPoint(step=step)) for step in range(11)] == list(range(1, 12))
    assert series.latest() == (11, LossPoint(step=10))
    assert series.entries(after=9) == [(10, LossPoint(step=9)), (11, LossPoint(step=10))]
    assert series.entries(after=11) == []
    assert store.names("runs/") == ["a"]
    assert store.names("runs/b") == []
    assert store.names("models/") == []


def test_racing_appends_all_find_a_place(store: Store) -> None:
    series = store.series(LossPoint, "runs/a")
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda racer: series.append(LossPoint(step=racer)), range(16)))
    assert sorted(numbers) == list(range(1, 17))
    assert sorted(document.step for _, document in series.entries()) == list(range(16))


def test_an_entry_is_never_overwritten(store: Store) -> None:
    series = store.series(LossPoint, "runs/a")
    assert series.append_at(1, LossPoint(step=1))
    assert not series.append_at(1, LossPoint(step=2))
    assert series.entry(1) == LossPoint(step=1)


def test_entries_and_whole_series_can_be_deleted(store: Store) -> None:
    series, other = store.series(LossPoint, "runs/a"), store.series(LossPoint, "runs/ab")
    for step in range(3):
        series.append(LossPoint(step=step))
    other.append(LossPoint(step=9))
    series.delete(1)
    series.delete(1)
    assert series.entry(1) is None
    assert series.latest() == (3, LossPoint(step=2))
    series.delete_all()
    assert series.latest() is None
    assert other.latest() == (1, LossPoint(step=9))
