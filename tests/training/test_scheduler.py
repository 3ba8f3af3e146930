"""Queued runs are launched in order, dead runners' runs are launched again, and not for ever."""

import pytest

from luthier_kit.heartbeat import Heartbeat
from luthier_kit.runs import RunLog
from luthier_kit.settings import load
from luthier_training.launchers.kubernetes_jobs import KubernetesLauncher
from luthier_training.launchers.launcher import DEAD, WORKING, Work
from luthier_training.launchers.local import MAX_ATTEMPTS
from luthier_training.scheduler import KIND, Scheduler
from luthier_training.settings import TrainingSettings


class Machine:
    """A launcher whose runners live until the test says otherwise."""

    places, attempts, every_s = 1, MAX_ATTEMPTS, 1.0

    def __init__(self):
        self.launched, self.living = [], set()

    def look(self):
        return {run: Work(WORKING if runner in self.living else DEAD, runner) for run, runner in self.launched}

    def launch(self, run):
        self.launched.append((run.id, f"runner-{len(self.launched)}"))
        self.living.add(self.launched[-1][1])

    def stop(self, run_id):
        self.living.difference_update(runner for run, runner in self.launched if run == run_id)

    def close(self):
        self.living.clear()


@pytest.fixture
def machine():
    return Machine()


def queued(store, name):
    return RunLog.create(store, KIND, name, {"request_id": name}).id


def test_runs_wait_for_a_place(store, machine):
    first, second = queued(store, "a"), queued(store, "b")
    scheduler = Scheduler(store, machine)
    scheduler.look()
    scheduler.look()
    assert [run for run, _ in machine.launched] == [first]
    run, runner = machine.launched[0]
    RunLog(store, run, runner).start()
    RunLog(store, run, runner).succeed()
    machine.living.clear()
    scheduler.look()
    assert [run for run, _ in machine.launched] == [first, second]


def test_a_dead_runners_run_is_launched_again_at_once(store, machine):
    run = queued(store, "a")
    scheduler = Scheduler(store, machine)
    scheduler.look()
    RunLog(store, run, machine.launched[0][1]).start()
    machine.living.clear()
    scheduler.look()
    assert len(machine.launched) == 2
    assert machine.launched[0][1] != machine.launched[1][1]


def test_a_run_whose_heart_beats_elsewhere_is_left_alone(store, machine):
    RunLog(store, queued(store, "a"), "another-machine").start()
    Scheduler(store, machine).look()
    assert machine.launched == []


def test_a_run_that_always_dies_fails(store, machine):
    run = queued(store, "a")
    scheduler = Scheduler(store, machine)
    for _ in range(MAX_ATTEMPTS + 1):
        scheduler.look()
        if machine.living:
            RunLog(store, run, machine.launched[-1][1]).start()
        machine.living.clear()
    ended = RunLog(store, run).read()
    assert (ended.state, (ended.error or {}).get("reason")) == ("FAILED", "RUNNER_DIED")
    assert len(machine.launched) == MAX_ATTEMPTS


def test_a_run_cancelled_while_its_runner_died_ends(store, machine):
    run = queued(store, "a")
    scheduler = Scheduler(store, machine)
    scheduler.look()
    RunLog(store, run, machine.launched[0][1]).start()
    RunLog(store, run).cancel("me", "enough")
    machine.living.clear()
    scheduler.look()
    assert RunLog(store, run).read().state == "CANCELLED"


# On Kubernetes


@pytest.fixture
def cluster_scheduler(store, api):
    """A function that starts the service's scheduler anew: nothing is known but what store and cluster tell."""
    return lambda: Scheduler(store, KubernetesLauncher(load(TrainingSettings)))


def only_job(api):
    [name] = api.jobs
    return name


def test_all_queued_runs_are_given_to_the_cluster(store, api, cluster_scheduler):
    runs = {queued(store, name) for name in "abc"}
    cluster_scheduler().look()
    assert {job["metadata"]["labels"]["luthier/run"] for job in api.jobs.values()} == runs


def test_a_restarted_service_launches_nothing_twice(store, api, cluster_scheduler):
    run = queued(store, "a")
    cluster_scheduler().look()
    api.pod_runs(only_job(api))
    RunLog(store, run, "pod-1").start()
    before = RunLog(store, run).read()
    for _ in range(3):
        cluster_scheduler().look()
    assert len(api.jobs) == 1
    assert RunLog(store, run).read() == before


def test_a_run_in_kueues_queue_says_so(store, api, cluster_scheduler, template):
    api.suspends = True
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    for _ in range(3):
        scheduler.look()
        api.jobs[only_job(api)]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "studio"
    waiting = RunLog(store, run).read()
    assert (waiting.state, waiting.progress["stage"]) == ("QUEUED", "queued in Kueue")
    scheduler.look()
    assert RunLog(store, run).read().seq == waiting.seq


def test_a_pod_that_no_node_takes_is_told(store, api, cluster_scheduler):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    unmet = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes available"}
    api.pod(only_job(api), phase="Pending", conditions=[unmet])
    scheduler.look()
    assert RunLog(store, run).read().progress["stage"] == "its Pod cannot be scheduled: 0/3 nodes available"


def test_however_often_nodes_die_the_run_goes_on(store, api, cluster_scheduler):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    for number in range(MAX_ATTEMPTS + 3):
        api.pod_runs(only_job(api))
        RunLog(store, run, f"pod-{number}").start()
        scheduler.look()
        Heartbeat(store, run, f"pod-{number}").stop()
        api.jobs[only_job(api)]["status"] = {"active": 1, "ready": 0}
        scheduler.look()
        assert RunLog(store, run).read().state == "QUEUED"
    assert api.asked.count(("create", "jobs")) == 2  # with the one that proved the permission


def test_a_preempted_run_is_queued_once_its_heart_is_silent(store, api, cluster_scheduler):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    api.pod_runs(only_job(api))
    RunLog(store, run, "pod-1").start()
    api.jobs[only_job(api)]["spec"]["suspend"] = True
    scheduler.look()
    assert RunLog(store, run).read().state == "RUNNING"
    Heartbeat(store, run, "pod-1").stop()
    scheduler.look()
    assert RunLog(store, run).read().progress["stage"] == "its Job is suspended"


def test_cancelling_a_queued_run_deletes_its_job(store, api, cluster_scheduler):
    api.suspends = True
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    RunLog(store, run).cancel("me", "enough")
    scheduler.look()
    assert RunLog(store, run).read().state == "CANCELLED"
    assert api.jobs == {}


def test_cancelling_a_preempted_run_deletes_its_job(store, api, cluster_scheduler):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    RunLog(store, run, "pod-1").start()
    RunLog(store, run).cancel("me", "enough")
    Heartbeat(store, run, "pod-1").stop()
    api.jobs[only_job(api)]["spec"]["suspend"] = True
    scheduler.look()
    assert RunLog(store, run).read().state == "CANCELLED"
    assert api.jobs == {}


def test_a_running_runs_cancel_is_left_to_its_runner(store, api, cluster_scheduler):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    api.pod_runs(only_job(api))
    own = RunLog(store, run, "pod-1")
    own.start()
    RunLog(store, run).cancel("me", "enough")
    scheduler.look()
    assert only_job(api)
    own.cancelled()
    scheduler.look()
    assert only_job(api)  # its process ends by itself, and the Job completes


def test_work_that_outlives_its_run_is_taken_away(store, api, cluster_scheduler, monkeypatch):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    api.pod_runs(only_job(api))
    own = RunLog(store, run, "pod-1")
    own.start()
    own.succeed()
    scheduler.look()
    assert only_job(api)
    monkeypatch.setattr("luthier_training.scheduler.LEAVE_PATIENCE_S", 0.0)
    scheduler.look()
    assert api.jobs == {}


def test_a_job_that_failed_for_good_fails_its_run(store, api, cluster_scheduler):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    end = {"exitCode": 137, "reason": "OOMKilled", "message": "the last lines of its log"}
    api.pod(only_job(api), phase="Failed", containerStatuses=[container(terminated=end)])
    api.ends(only_job(api))
    scheduler.look()
    ended = RunLog(store, run).read()
    assert (ended.state, ended.error["reason"]) == ("FAILED", "RUNNER_DIED")
    for part in ("BackoffLimitExceeded", "exit code 137", "OOMKilled", "the last lines of its log"):
        assert part in ended.error["message"]


def test_a_job_whose_pods_may_not_be_read_fails_its_run_all_the_same(store, api, cluster_scheduler):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    api.ends(only_job(api))
    api.refusals["list", "pods"] = 403, "pods is forbidden"
    scheduler.look()
    assert "BackoffLimitExceeded" in RunLog(store, run).read().error["message"]


@pytest.mark.parametrize(("status", "reason"), [(403, "KUBERNETES_FORBIDDEN"), (422, "JOB_REFUSED")])
def test_a_refused_job_fails_its_run(store, api, cluster_scheduler, status, reason):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    api.refusals["create", "jobs"] = status, "no such thing here"
    scheduler.look()
    ended = RunLog(store, run).read()
    assert (ended.state, ended.error["reason"]) == ("FAILED", reason)
    assert "no such thing here" in ended.error["message"]


@pytest.mark.parametrize(
    ("status", "message"), [(500, "webhook is away"), (401, "Unauthorized"), (403, "exceeded quota: count/jobs")]
)
def test_a_cluster_that_cannot_take_it_now_is_asked_again(store, api, cluster_scheduler, status, message):
    run = queued(store, "a")
    scheduler = cluster_scheduler()
    api.refusals["create", "jobs"] = status, message
    scheduler.look()
    waiting = RunLog(store, run).read()
    assert (waiting.state, message in waiting.progress["stage"]) == ("QUEUED", True)
    api.refusals.clear()
    scheduler.look()
    assert only_job(api)


def test_a_deleted_job_is_made_again(store, api, cluster_scheduler):
    queued(store, "a")
    scheduler = cluster_scheduler()
    scheduler.look()
    api.jobs.clear()
    scheduler.look()
    assert only_job(api)


def container(**state):
    return {"name": "runner", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
