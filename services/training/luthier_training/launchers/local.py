"""Runners as processes beside the service."""

import logging
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass

from luthier_training.launchers.launcher import Work, WorkState, runner_arguments
from luthier_training.runs import TrainingRun
from luthier_training.settings import TrainingSettings

log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 20.0
KILL_AFTER_S = 120.0
"""From `stop` on a runner may take this long to store its checkpoint, as a Job's Pod may."""
MAX_ATTEMPTS = 10
"""Attempts at a run before it fails: restarts of the service count, too."""


@dataclass
class _Runner:
    """A process; `name` is the runner's name in the run, `terminated_at` when it was sent a SIGTERM (monotonic)."""

    name: str
    process: subprocess.Popen[bytes]
    terminated_at: float | None = None


class LocalLauncher:
    """A process per run, in a session of its own, with the service's environment.

    A service that stops terminates its runners, which store a checkpoint first; one that was killed leaves them
    working. So they write to a log of their own: what the service inherited is a pipe that may end with it.
    """

    max_attempts: int | None = MAX_ATTEMPTS
    poll_interval_s = 1.0

    def __init__(self, settings: TrainingSettings) -> None:
        self.slots: int | None = settings.runners
        self._processes = settings.processes
        self._logs = settings.scratch / "luthier-runners"
        self._runners: dict[str, _Runner] = {}

    def list_work(self) -> dict[str, Work]:
        return {
            run_id: Work(WorkState.RUNNING if runner.process.poll() is None else WorkState.EXITED, runner.name)
            for run_id, runner in self._runners.items()
        }

    def describe(self, run_id: str) -> str:
        return ""

    def launch(self, run: TrainingRun) -> None:
        name = uuid.uuid4().hex
        command = [sys.executable, *runner_arguments(run.id, self._processes, name)]
        # idle OpenMP threads that spin take the cores of whoever shares the machine
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"}
        self._logs.mkdir(parents=True, exist_ok=True)
        path = self._logs / f"{run.id}.log"
        with path.open("ab") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        self._runners[run.id] = _Runner(name, process)
        log.info("the runner of %s writes to %s", run.id, path)

    def stop(self, run_id: str) -> None:
        if (runner := self._runners.get(run_id)) is None:
            return
        now = time.monotonic()
        if runner.terminated_at is None:
            runner.terminated_at = now
            runner.process.terminate()
        elif now - runner.terminated_at >= KILL_AFTER_S:
            runner.process.kill()

    def close(self) -> None:
        alive = [runner.process for runner in self._runners.values() if runner.process.poll() is None]
        for process in alive:
            process.terminate()
        for process in alive:
            try:
                process.wait(CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
