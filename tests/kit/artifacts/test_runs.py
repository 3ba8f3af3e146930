"""Runs: states, runners, cancelling, watching; and what another process sees of them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier_kit.registry import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    RunLog,
    list_runs,
)
from luthier_kit.rpc import Aborted, FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.store import FolderStore, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(FolderStore(tmp_path, "luthier"))
    store.objects.ensure_bucket(create=True)
    return store


def created(store: Store, request_id: str = "once") -> RunLog:
    return RunLog.create(store, "training", request_id, {"steps": 10})


def runner(store: Store, name: str = "runner-1") -> RunLog:
    return RunLog(store, created(store).id, runner=name)


def test_a_run_goes_from_queued_to_succeeded(store: Store) -> None:
    log = created(store)
    assert log.read().state == RUN_STATE_QUEUED
    work = runner(store)
    assert work.start().state == RUN_STATE_RUNNING
    work.progress(stage="train", done=3, total=10)
    work.progress(done=10)
    work.succeed(model="tiny@1")

    seen = log.read()
    assert (seen.state, seen.ended, seen.attempts) == (RUN_STATE_SUCCEEDED, True, 1)
    assert seen.progress == {"stage": "train", "done": 10, "total": 10}
    assert seen.result == {"model": "tiny@1"}
    assert seen.request == {"steps": 10}
    assert seen.seq == 5


def test_the_same_request_id_is_the_same_run(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = {log.id for log in pool.map(lambda _: created(store), range(8))}
    assert len(ids) == 1
    assert created(store).read().seq == 1


def test_a_request_id_asks_one_thing_only(store: Store) -> None:
    created(store)
    with pytest.raises(FailedPrecondition) as caught:
        RunLog.create(store, "training", "once", {"steps": 11})
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_kinds_do_not_collide(store: Store) -> None:
    evaluation = RunLog.create(store, "evaluation", "once", {})
    assert evaluation.id != created(store).id
    assert [run.id for run in list_runs(store, "evaluation")] == [evaluation.id]


@pytest.mark.parametrize("request_id", ["", "x" * 129])
def test_a_request_id_has_bounds(store: Store, request_id: str) -> None:
    with pytest.raises(InvalidRequest, match="request_id: must be 1 to 128"):
        RunLog.create(store, "training", request_id, {})


@pytest.mark.parametrize("run_id", ["training-0", "", "../x", "a/b", "x" * 500])
def test_an_unknown_run_is_not_found(store: Store, run_id: str) -> None:
    with pytest.raises(NotFound):
        RunLog(store, run_id).read()


def test_an_ended_run_stays_as_it_is(store: Store) -> None:
    work = runner(store)
    work.start()
    work.fail("OUT_OF_MEMORY", "no room for batch 16")
    assert work.read().error == {"reason": "OUT_OF_MEMORY", "message": "no room for batch 16"}
    for late in (work.start, work.succeed):
        with pytest.raises(FailedPrecondition, match="is RUN_STATE_FAILED"):
            late()
    assert work.cancel().state == RUN_STATE_FAILED
    assert work.cancelled().state == RUN_STATE_FAILED


def test_a_queued_run_is_cancelled_at_once(store: Store) -> None:
    log = created(store)
    assert log.cancel(by="ann", reason="wrong data set").state == RUN_STATE_CANCELLED
    assert log.read().cancel == {"by": "ann", "reason": "wrong data set"}
    with pytest.raises(FailedPrecondition):
        runner(store).start()


def test_a_running_run_is_cancelled_when_its_runner_sees_it(store: Store) -> None:
    work = runner(store)
    work.start()
    created(store).cancel(by="ann")
    assert work.progress(done=1).cancel
    assert work.read().state == RUN_STATE_RUNNING
    assert work.cancelled().state == RUN_STATE_CANCELLED


def test_a_run_is_not_taken_from_a_living_runner(store: Store) -> None:
    runner(store).start()
    with pytest.raises(Aborted) as caught:
        runner(store, "runner-2").start()
    assert caught.value.reason == "RUN_TAKEN"
    assert created(store).requeue().state == RUN_STATE_RUNNING


def test_a_dead_runners_run_is_taken_over_and_the_dead_cannot_write(store: Store) -> None:
    first, second = runner(store), runner(store, "runner-2")
    first.start()
    first.heartbeat.beat(expiry_s=0)
    assert second.start().attempts == 2
    with pytest.raises(Aborted) as caught:
        first.progress(done=5)
    assert caught.value.reason == "RUN_TAKEN"
    assert second.succeed().state == RUN_STATE_SUCCEEDED


def test_a_dead_runners_run_is_queued_again(store: Store) -> None:
    work = runner(store)
    work.start()
    work.heartbeat.stop()
    assert created(store).requeue().state == RUN_STATE_QUEUED
    assert created(store).requeue().seq == 3


def test_a_queued_run_says_once_what_it_waits_for(store: Store) -> None:
    log = created(store)
    assert log.waiting("no node").progress["stage"] == "no node"
    assert log.waiting("no node").seq == 2
    runner(store).start()
    assert log.waiting("no node").event == "started"


def test_of_two_racing_runners_one_starts(store: Store) -> None:
    logs = [runner(store, f"runner-{n}") for n in range(8)]
    ready = threading.Barrier(8)

    def start(log: RunLog) -> bool:
        ready.wait()
        try:
            log.start()
        except Aborted:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, logs)) == 1


def test_old_heartbeats_are_swept(store: Store) -> None:
    work = runner(store)
    for _ in range(10):
        work.heartbeat.beat()
    assert work.heartbeat.alive()
    assert len(list(store.objects.keys("heartbeats/"))) == 2


def test_watching_sees_every_event_until_the_end(store: Store) -> None:
    log, work = created(store), runner(store)
    seen: list[int] = []
    watcher = threading.Thread(target=lambda: seen.extend(run.seq for run in log.watch(poll_s=0.01)))
    watcher.start()
    work.start()
    for done in range(5):
        work.progress(done=done)
    work.succeed()
    watcher.join(timeout=10)
    assert seen == list(range(seen[0], 9))


def test_watching_goes_on_behind_an_event(store: Store) -> None:
    work = runner(store)
    work.start()
    work.progress(done=1)
    work.succeed()
    assert [run.seq for run in work.watch(after_seq=2, poll_s=0.01)] == [3, 4]
    assert [run.seq for run in work.watch(poll_s=0.01)] == [4]
    assert list(work.watch(after_seq=4, poll_s=0.01)) == []


def test_watching_stops_when_nobody_listens(store: Store) -> None:
    listening = iter([True, True, False])
    assert [run.state for run in created(store).watch(poll_s=0.01, going=lambda: next(listening))] == [RUN_STATE_QUEUED]


def test_a_restarted_service_loses_nothing(store: Store, tmp_path: Path) -> None:
    work = runner(store)
    work.start()
    work.progress(done=4)
    again = Store(FolderStore(tmp_path, "luthier"))
    (run,) = list_runs(again, "training")
    assert (run.state, run.progress, run.runner) == (RUN_STATE_RUNNING, {"done": 4}, "runner-1")
