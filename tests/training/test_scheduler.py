"""Queued runs are launched in order, dead runners' runs are launched again, and not for ever."""

import pytest

from luthier_kit.runs import RunLog
from luthier_training.scheduler import KIND, MAX_ATTEMPTS, Scheduler


class Machine:
    """A launcher whose runners live until the test says otherwise."""

    def __init__(self):
        self.launched, self.living = [], set()

    def launch(self, run_id, runner):
        self.launched.append((run_id, runner))
        self.living.add(runner)

    def alive(self, runner):
        return runner in self.living

    def close(self):
        self.living.clear()


@pytest.fixture
def machine():
    return Machine()


def queued(store, name):
    return RunLog.create(store, KIND, name, {"request_id": name}).id


def test_runs_wait_for_a_place(store, machine):
    first, second = queued(store, "a"), queued(store, "b")
    scheduler = Scheduler(store, machine, places=1)
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
    scheduler = Scheduler(store, machine, places=1)
    scheduler.look()
    RunLog(store, run, machine.launched[0][1]).start()
    machine.living.clear()
    scheduler.look()
    assert len(machine.launched) == 2
    assert machine.launched[0][1] != machine.launched[1][1]


def test_a_run_whose_heart_beats_elsewhere_is_left_alone(store, machine):
    RunLog(store, queued(store, "a"), "another-machine").start()
    Scheduler(store, machine, places=1).look()
    assert machine.launched == []


def test_a_run_that_always_dies_fails(store, machine):
    run = queued(store, "a")
    scheduler = Scheduler(store, machine, places=1)
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
    scheduler = Scheduler(store, machine, places=1)
    scheduler.look()
    RunLog(store, run, machine.launched[0][1]).start()
    RunLog(store, run).cancel("me", "enough")
    machine.living.clear()
    scheduler.look()
    assert RunLog(store, run).read().state == "CANCELLED"
