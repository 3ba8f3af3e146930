"""Runs: states, runners, cancelling, watching; and what another process sees of them."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from luthier.evaluation.v1.evaluation_pb2 import CreateEvaluationRequest, Evaluation
from luthier.registry.v1.registry_pb2 import Cancellation
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TrainingProgress, TrainingResult
from luthier_kit.registry import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    RunKind,
    RunLog,
    RunPages,
    claim_request,
    list_runs,
)
from luthier_kit.rpc import (
    Aborted,
    DataLoss,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    current_caller,
    error_of,
)
from luthier_kit.store import FolderStore, Store
from tests.support.stores import damage

TRAINING = RunKind("training", CreateTrainingRunRequest, TrainingProgress, TrainingResult)
EVALUATION = RunKind("evaluation", CreateEvaluationRequest, Evaluation, Evaluation)
REQUEST = CreateTrainingRunRequest(model_name="tuned")
TrainingLog = RunLog[CreateTrainingRunRequest, TrainingProgress, TrainingResult]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(FolderStore(tmp_path, "luthier"))
    store.objects.ensure_bucket(create=True)
    return store


def created(store: Store, request_id: str = "once") -> TrainingLog:
    return RunLog.create(store, TRAINING, request_id, REQUEST)


def runner(store: Store, name: str = "runner-1") -> TrainingLog:
    return RunLog(store, TRAINING, created(store).id, runner=name)


def test_a_run_goes_from_queued_to_succeeded(store: Store) -> None:
    log = created(store)
    assert log.read().state == RUN_STATE_QUEUED
    work = runner(store)
    assert work.start().state == RUN_STATE_RUNNING
    work.progress(TrainingProgress(stage="train", done=3, total=10))
    work.progress(TrainingProgress(stage="export", done=10))
    work.succeed(TrainingResult(model="tiny@1"))

    seen = log.read()
    assert (seen.state, seen.ended, seen.attempts) == (RUN_STATE_SUCCEEDED, True, 1)
    assert seen.progress == TrainingProgress(stage="export", done=10)  # the newest as a whole
    assert seen.result == TrainingResult(model="tiny@1")
    assert seen.request == REQUEST
    assert seen.seq == 5


def test_the_same_request_id_is_the_same_run(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = {log.id for log in pool.map(lambda _: created(store), range(8))}
    assert len(ids) == 1
    assert created(store).read().seq == 1


def test_a_request_id_asks_one_thing_only(store: Store) -> None:
    created(store)
    with pytest.raises(FailedPrecondition) as caught:
        RunLog.create(store, TRAINING, "once", CreateTrainingRunRequest(model_name="other"))
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_kinds_do_not_collide(store: Store) -> None:
    evaluation = RunLog.create(store, EVALUATION, "once", CreateEvaluationRequest())
    assert evaluation.id != created(store).id
    assert [run.id for run in list_runs(store, EVALUATION)] == [evaluation.id]


@pytest.mark.parametrize("request_id", ["", "x" * 129])
def test_a_request_id_has_bounds(store: Store, request_id: str) -> None:
    with pytest.raises(InvalidRequest, match="request_id: must be 1 to 128"):
        RunLog.create(store, TRAINING, request_id, REQUEST)


@pytest.mark.parametrize("run_id", ["training-0", "", "../x", "a/b", "x" * 500])
def test_an_unknown_run_is_not_found(store: Store, run_id: str) -> None:
    with pytest.raises(NotFound):
        RunLog(store, TRAINING, run_id).read()


def test_an_ended_run_stays_as_it_is(store: Store) -> None:
    work = runner(store)
    work.start()
    work.fail(QuotaExceeded("no room for batch 16", reason="OUT_OF_MEMORY"))
    error = work.read().error
    assert error
    again = error_of(error)
    assert (type(again), again.reason, str(again)) == (QuotaExceeded, "OUT_OF_MEMORY", "no room for batch 16")
    for late in (work.start, lambda: work.succeed(TrainingResult())):
        with pytest.raises(FailedPrecondition, match="is FAILED"):
            late()
    assert work.cancel().state == RUN_STATE_FAILED
    assert work.cancelled().state == RUN_STATE_FAILED


def test_a_queued_run_is_cancelled_at_once(store: Store) -> None:
    log = created(store)
    assert log.cancel(by="ann", reason="wrong data set").state == RUN_STATE_CANCELLED
    assert log.read().cancellation == Cancellation(requested_by="ann", reason="wrong data set")
    with pytest.raises(FailedPrecondition):
        runner(store).start()


def test_a_running_run_is_cancelled_when_its_runner_sees_it(store: Store) -> None:
    work = runner(store)
    work.start()
    created(store).cancel(by="ann")
    assert work.progress(TrainingProgress(done=1)).cancellation == Cancellation(requested_by="ann")
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
        first.progress(TrainingProgress(done=5))
    assert caught.value.reason == "RUN_TAKEN"
    assert second.succeed(TrainingResult()).state == RUN_STATE_SUCCEEDED


def test_a_dead_runners_run_is_queued_again(store: Store) -> None:
    work = runner(store)
    work.start()
    work.heartbeat.stop()
    assert created(store).requeue().state == RUN_STATE_QUEUED
    assert created(store).requeue().seq == 3


def test_a_queued_run_says_once_what_it_waits_for(store: Store) -> None:
    log = created(store)
    assert log.waiting("no node").waiting_for == "no node"
    assert log.waiting("no node").seq == 2
    assert runner(store).start().waiting_for == ""
    assert log.waiting("no node").event == "started"


def test_of_two_racing_runners_one_starts(store: Store) -> None:
    logs = [runner(store, f"runner-{n}") for n in range(8)]
    ready = threading.Barrier(8)

    def start(log: TrainingLog) -> bool:
        ready.wait()
        try:
            log.start()
        except Aborted:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, logs)) == 1


def test_old_heartbeats_are_deleted(store: Store) -> None:
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
        work.progress(TrainingProgress(done=done))
    work.succeed(TrainingResult())
    watcher.join(timeout=10)
    assert seen == list(range(seen[0], 9))


def test_watching_goes_on_behind_an_event(store: Store) -> None:
    work = runner(store)
    work.start()
    work.progress(TrainingProgress(done=1))
    work.succeed(TrainingResult())
    assert [run.seq for run in work.watch(after_seq=2, poll_s=0.01)] == [3, 4]
    assert [run.seq for run in work.watch(poll_s=0.01)] == [4]
    assert list(work.watch(after_seq=4, poll_s=0.01)) == []


def test_watching_stops_when_nobody_listens(store: Store) -> None:
    listening = iter([True, True, False])
    assert [run.state for run in created(store).watch(poll_s=0.01, going=lambda: next(listening))] == [RUN_STATE_QUEUED]


def test_a_restarted_service_loses_nothing(store: Store, tmp_path: Path) -> None:
    work = runner(store)
    work.start()
    work.progress(TrainingProgress(done=4))
    again = Store(FolderStore(tmp_path, "luthier"))
    (run,) = list_runs(again, TRAINING)
    assert (run.state, run.progress, run.runner) == (RUN_STATE_RUNNING, TrainingProgress(done=4), "runner-1")


def test_runs_are_listed_newest_first(store: Store) -> None:
    ids = [created(store, f"request-{number}").id for number in range(3)]
    assert [run.id for run in list_runs(store, TRAINING)] == ids[::-1]


def test_pages_of_runs_are_newest_first_and_follow_each_other(store: Store) -> None:
    ids = [created(store, f"request-{number}").id for number in range(5)]
    pages = RunPages(store, TRAINING)
    first, behind_first = pages.page(2)
    second, behind_second = pages.page(2, behind_first)
    third, end = pages.page(2, behind_second)
    assert [[run.id for _, run in page] for page in (first, second, third)] == [ids[:2:-1], ids[2:0:-1], ids[:1]]
    assert not end


def test_a_page_shows_the_newest_state_and_what_is_new_or_gone(store: Store, tmp_path: Path) -> None:
    old, log = created(store, "old"), created(store)
    pages = RunPages(store, TRAINING)
    assert [run.state for _, run in pages.page(9)[0]] == [RUN_STATE_QUEUED, RUN_STATE_QUEUED]
    log.cancel()
    newer = created(store, "newer")
    shutil.rmtree(tmp_path / "luthier/runs" / old.id)
    assert [(run.id, run.state) for _, run in pages.page(9)[0]] == [
        (newer.id, RUN_STATE_QUEUED), (log.id, RUN_STATE_CANCELLED),
    ]  # fmt: skip


def test_a_page_costs_its_own_runs_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        created(store, f"request-{number}")
    pages = RunPages(store, TRAINING)
    pages.page(2)
    read: list[str] = []
    get = store.objects.get

    def noted(key: str, most: int) -> bytes | None:
        read.append(key)
        return get(key, most)

    pages.note(created(store, "request-20").read())
    monkeypatch.setattr(store.objects, "get", noted)
    pages.page(2)
    assert len(read) == 2


def test_an_event_is_stored_as_a_message_that_people_can_read(store: Store) -> None:
    log = created(store)
    entry = json.loads(store.objects.get(f"runs/{log.id}/1.json", 1 << 20) or b"")
    document = entry["document"]
    assert document["@type"] == "type.googleapis.com/luthier.registry.v1.Run"
    assert (document["run_id"], document["state"], document["event"]) == (log.id, "RUN_STATE_QUEUED", "created")
    assert document["request"] == {
        "@type": "type.googleapis.com/luthier.training.v1.CreateTrainingRunRequest", "model_name": "tuned",
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"state": 99}, {"kind": "evaluation"}, {"kind": "nobody knows"}])
def test_a_run_of_an_unknown_kind_is_corrupt_and_left_out_of_lists(store: Store, changes: dict[str, Any]) -> None:
    good, bad = created(store, "good"), created(store, "bad")
    key = f"runs/{bad.id}/1.json"
    entry = json.loads(store.objects.get(key, 1 << 20) or b"")
    entry["document"].update(changes)
    damage(store, key, json.dumps(entry).encode())
    with pytest.raises(DataLoss) as refused:
        RunLog(store, TRAINING, bad.id).read()
    assert refused.value.reason == "ENTRY_CORRUPT"
    assert [run.id for run in list_runs(store, TRAINING)] == [good.id]


def test_a_request_id_is_bound_to_what_it_asked_first(store: Store) -> None:
    for request in (REQUEST, REQUEST):
        claim_request(store, "generate", "once", request)
    claim_request(store, "generate", "twice", CreateTrainingRunRequest(model_name="other"))
    with pytest.raises(FailedPrecondition) as refused:
        claim_request(store, "generate", "once", CreateTrainingRunRequest(model_name="other"))
    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_callers_share_no_request_ids(store: Store) -> None:
    claim_request(store, "generate", "1", REQUEST)
    token = current_caller.set("another team")
    try:
        claim_request(store, "generate", "1", CreateTrainingRunRequest(model_name="other"))
    finally:
        current_caller.reset(token)


def test_a_run_that_cannot_be_read_hides_no_other(store: Store) -> None:
    readable, broken = (created(store, request_id).id for request_id in ("one", "two"))
    assert store.objects.create(f"runs/{broken}/2.json", b"{")
    assert [run.id for run in list_runs(store, TRAINING)] == [readable]
    assert list_runs(store, TRAINING, leave_out={readable}) == []
