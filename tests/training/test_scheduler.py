"""Queued runs are launched in order; runs whose runner died are launched again, and not for ever."""

from collections.abc import Callable

import pytest

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TrainingResult
from luthier_kit.registry import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    Heartbeat,
    RunLog,
)
from luthier_kit.rpc import error_of, load
from luthier_kit.store import Store
from luthier_training.launchers.kubernetes_jobs import KubernetesLauncher
from luthier_training.launchers.launcher import Work, WorkState
from luthier_training.launchers.local import MAX_ATTEMPTS
from luthier_training.runs import KIND, TrainingRun, to_message
from luthier_training.scheduler import Scheduler
from luthier_training.settings import TrainingSettings
from tests.kubernetes_api import Api

from .conftest import WriteTemplate


class Machine:
    """A launcher whose runners live until the test says otherwise."""

    slots: int | None = 1
    max_attempts: int | None = MAX_ATTEMPTS
    poll_interval_s = 1.0

    def __init__(self) -> None:
        self.launched: list[tuple[str, str]] = []
        self.living: set[str] = set()

    def list_work(self) -> dict[str, Work]:
        states = {True: WorkState.RUNNING, False: WorkState.EXITED}
        return {run: Work(states[runner in self.living], runner) for run, runner in self.launched}

    def describe(self, run_id: str) -> str:
        return ""

    def launch(self, run: TrainingRun) -> None:
        self.launched.append((run.id, f"runner-{len(self.launched)}"))
        self.living.add(self.launched[-1][1])

    def stop(self, run_id: str) -> None:
        self.living.difference_update(runner for run, runner in self.launched if run == run_id)

    def close(self) -> None:
        self.living.clear()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def queued(store: Store, name: str) -> str:
    return RunLog.create(store, KIND, name, CreateTrainingRunRequest(request_id=name)).id


def test_runs_wait_for_a_slot(store: Store, machine: Machine) -> None:
    first, second = queued(store, "a"), queued(store, "b")
    scheduler = Scheduler(store, machine)
    scheduler.reconcile()
    scheduler.reconcile()
    assert [run for run, _ in machine.launched] == [first]
    run, runner = machine.launched[0]
    RunLog(store, KIND, run, runner).start()
    RunLog(store, KIND, run, runner).succeed(TrainingResult())
    machine.living.clear()
    scheduler.reconcile()
    assert [run for run, _ in machine.launched] == [first, second]


def test_a_dead_runners_run_is_launched_again_at_once(store: Store, machine: Machine) -> None:
    run = queued(store, "a")
    scheduler = Scheduler(store, machine)
    scheduler.reconcile()
    RunLog(store, KIND, run, machine.launched[0][1]).start()
    machine.living.clear()
    scheduler.reconcile()
    assert len(machine.launched) == 2
    assert machine.launched[0][1] != machine.launched[1][1]


def test_a_run_whose_runner_is_alive_elsewhere_is_left_alone(store: Store, machine: Machine) -> None:
    RunLog(store, KIND, queued(store, "a"), "another-machine").start()
    Scheduler(store, machine).reconcile()
    assert machine.launched == []


def test_a_run_that_always_dies_fails(store: Store, machine: Machine) -> None:
    run = queued(store, "a")
    scheduler = Scheduler(store, machine)
    for _ in range(MAX_ATTEMPTS + 1):
        scheduler.reconcile()
        if machine.living:
            RunLog(store, KIND, run, machine.launched[-1][1]).start()
        machine.living.clear()
    ended = RunLog(store, KIND, run).read()
    assert ended.error
    assert (ended.state, error_of(ended.error).reason) == (RUN_STATE_FAILED, "RUNNER_DIED")
    assert len(machine.launched) == MAX_ATTEMPTS


def test_a_run_cancelled_while_its_runner_died_ends(store: Store, machine: Machine) -> None:
    run = queued(store, "a")
    scheduler = Scheduler(store, machine)
    scheduler.reconcile()
    RunLog(store, KIND, run, machine.launched[0][1]).start()
    RunLog(store, KIND, run).cancel("me", "enough")
    machine.living.clear()
    scheduler.reconcile()
    assert RunLog(store, KIND, run).read().state == RUN_STATE_CANCELLED


# On Kubernetes


@pytest.fixture
def cluster_scheduler(store: Store, api: Api) -> Callable[[], Scheduler]:
    """A function that starts the service's scheduler anew: nothing is known but what is in store and cluster."""
    return lambda: Scheduler(store, KubernetesLauncher(load(TrainingSettings)))


def only_job(api: Api) -> str:
    [name] = api.jobs
    return str(name)


def test_all_queued_runs_are_given_to_the_cluster(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    runs = {queued(store, name) for name in "abc"}
    cluster_scheduler().reconcile()
    assert {job["metadata"]["labels"]["luthier/run"] for job in api.jobs.values()} == runs


def test_a_restarted_service_launches_nothing_twice(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    run = queued(store, "a")
    cluster_scheduler().reconcile()
    api.pod_runs(only_job(api))
    RunLog(store, KIND, run, "pod-1").start()
    before = RunLog(store, KIND, run).read()
    for _ in range(3):
        cluster_scheduler().reconcile()
    assert len(api.jobs) == 1
    assert RunLog(store, KIND, run).read() == before


def test_a_run_in_kueues_queue_says_so(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler], template: WriteTemplate
) -> None:
    api.suspends = True
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    for _ in range(3):
        scheduler.reconcile()
        api.jobs[only_job(api)]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "studio"
    waiting = RunLog(store, KIND, run).read()
    assert (waiting.state, to_message(waiting).stage) == (RUN_STATE_QUEUED, "queued in Kueue")
    scheduler.reconcile()
    assert RunLog(store, KIND, run).read().seq == waiting.seq


def test_a_pod_that_no_node_takes_says_so(store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    unmet = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes available"}
    api.pod(only_job(api), phase="Pending", conditions=[unmet])
    scheduler.reconcile()
    assert RunLog(store, KIND, run).read().waiting_for == "its Pod cannot be scheduled: 0/3 nodes available"


def test_however_often_nodes_die_the_run_goes_on(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    for number in range(MAX_ATTEMPTS + 3):
        api.pod_runs(only_job(api))
        RunLog(store, KIND, run, f"pod-{number}").start()
        scheduler.reconcile()
        Heartbeat(store, run, f"pod-{number}").stop()
        api.jobs[only_job(api)]["status"] = {"active": 1, "ready": 0}
        scheduler.reconcile()
        assert RunLog(store, KIND, run).read().state == RUN_STATE_QUEUED
    assert api.asked.count(("create", "jobs")) == 2  # with the one that proved the permission


def test_a_preempted_run_is_queued_once_its_heartbeat_ends(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    api.pod_runs(only_job(api))
    RunLog(store, KIND, run, "pod-1").start()
    api.jobs[only_job(api)]["spec"]["suspend"] = True
    scheduler.reconcile()
    assert RunLog(store, KIND, run).read().state == RUN_STATE_RUNNING
    Heartbeat(store, run, "pod-1").stop()
    scheduler.reconcile()
    assert RunLog(store, KIND, run).read().waiting_for == "its Job is suspended"


def test_cancelling_a_queued_run_deletes_its_job(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    api.suspends = True
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    RunLog(store, KIND, run).cancel("me", "enough")
    scheduler.reconcile()
    assert RunLog(store, KIND, run).read().state == RUN_STATE_CANCELLED
    assert api.jobs == {}


def test_cancelling_a_preempted_run_deletes_its_job(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    RunLog(store, KIND, run, "pod-1").start()
    RunLog(store, KIND, run).cancel("me", "enough")
    Heartbeat(store, run, "pod-1").stop()
    api.jobs[only_job(api)]["spec"]["suspend"] = True
    scheduler.reconcile()
    assert RunLog(store, KIND, run).read().state == RUN_STATE_CANCELLED
    assert api.jobs == {}


def test_a_running_runs_cancel_is_left_to_its_runner(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    api.pod_runs(only_job(api))
    own = RunLog(store, KIND, run, "pod-1")
    own.start()
    RunLog(store, KIND, run).cancel("me", "enough")
    scheduler.reconcile()
    assert only_job(api)
    own.cancelled()
    scheduler.reconcile()
    assert only_job(api)  # its process ends by itself, and the Job completes


def test_work_that_outlives_its_run_is_stopped(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    api.pod_runs(only_job(api))
    own = RunLog(store, KIND, run, "pod-1")
    own.start()
    own.succeed(TrainingResult())
    scheduler.reconcile()
    assert only_job(api)
    monkeypatch.setattr("luthier_training.scheduler.LINGER_LIMIT_S", 0.0)
    scheduler.reconcile()
    assert api.jobs == {}


def test_a_job_that_failed_for_good_fails_its_run(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    end = {"exitCode": 137, "reason": "OOMKilled", "message": "the last lines of its log"}
    api.pod(only_job(api), phase="Failed", containerStatuses=[container(terminated=end)])
    api.ends(only_job(api))
    scheduler.reconcile()
    ended = RunLog(store, KIND, run).read()
    assert ended.error
    assert (ended.state, error_of(ended.error).reason) == (RUN_STATE_FAILED, "RUNNER_DIED")
    for part in ("BackoffLimitExceeded", "exit code 137", "OOMKilled", "the last lines of its log"):
        assert part in ended.error.message


def test_a_job_whose_pods_may_not_be_read_fails_its_run_all_the_same(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    api.ends(only_job(api))
    api.refusals["list", "pods"] = 403, "pods is forbidden"
    scheduler.reconcile()
    error = RunLog(store, KIND, run).read().error
    assert error
    assert "BackoffLimitExceeded" in error.message


@pytest.mark.parametrize(("status", "reason"), [(403, "KUBERNETES_FORBIDDEN"), (422, "JOB_REFUSED")])
def test_a_refused_job_fails_its_run(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler], status: int, reason: str
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    api.refusals["create", "jobs"] = status, "no such thing here"
    scheduler.reconcile()
    ended = RunLog(store, KIND, run).read()
    assert ended.error
    assert (ended.state, error_of(ended.error).reason) == (RUN_STATE_FAILED, reason)
    assert "no such thing here" in ended.error.message


@pytest.mark.parametrize(
    ("status", "message"), [(500, "webhook is away"), (401, "Unauthorized"), (403, "exceeded quota: count/jobs")]
)
def test_a_cluster_that_cannot_take_it_now_is_asked_again(
    store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler], status: int, message: str
) -> None:
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    api.refusals["create", "jobs"] = status, message
    scheduler.reconcile()
    waiting = RunLog(store, KIND, run).read()
    assert (waiting.state, message in waiting.waiting_for) == (RUN_STATE_QUEUED, True)
    api.refusals.clear()
    scheduler.reconcile()
    assert only_job(api)


def test_a_deleted_job_is_made_again(store: Store, api: Api, cluster_scheduler: Callable[[], Scheduler]) -> None:
    queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.reconcile()
    api.jobs.clear()
    scheduler.reconcile()
    assert only_job(api)


def container(**state: object) -> dict[str, object]:
    return {"name": "runner", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
