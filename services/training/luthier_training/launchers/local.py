"""Runners as processes beside the service."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import uuid

from luthier_kit.runs import Run
from luthier_training.launchers.launcher import DEAD, WORKING, Work, arguments
from luthier_training.settings import TrainingSettings

log = logging.getLogger(__name__)
STOP_PATIENCE_S = 20.0
KILL_AFTER_S = 120.0
"""From `stop` on a runner may take this long to store its checkpoint, as a Job's Pod may."""
MAX_ATTEMPTS = 10
"""Attempts at a run before it fails: restarts of the service count, too."""


class LocalLauncher:
    """A process per run, in a session of its own, with the service's environment.

    A service that stops tells its runners to go after their next checkpoint; one that was killed leaves them working.
    So they write to a log of their own: what the service inherited is a pipe that may end with it.
    """

    attempts: int | None = MAX_ATTEMPTS
    every_s = 1.0

    def __init__(self, settings: TrainingSettings) -> None:
        self.places: int | None = settings.runners
        self._ranks = settings.processes
        self._logs = settings.scratch / "luthier-runners"
        self._started: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
        self._told_at: dict[str, float] = {}

    def look(self) -> dict[str, Work]:
        return {
            run_id: Work(WORKING if process.poll() is None else DEAD, runner)
            for run_id, (runner, process) in self._started.items()
        }

    def why(self, run_id: str) -> str:
        return ""

    def launch(self, run: Run) -> None:
        runner = uuid.uuid4().hex
        command = [sys.executable, *arguments(run.id, self._ranks, runner)]
        # idle OpenMP threads that spin take the cores of whoever shares the machine
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"}
        self._logs.mkdir(parents=True, exist_ok=True)
        path = self._logs / f"{run.id}.log"
        with path.open("ab") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        self._started[run.id] = runner, process
        log.info("the runner of %s writes to %s", run.id, path)

    def stop(self, run_id: str) -> None:
        if run_id not in self._started:
            return
        process, now = self._started[run_id][1], time.monotonic()
        if run_id not in self._told_at:
            self._told_at[run_id] = now
            process.terminate()
        elif now - self._told_at[run_id] >= KILL_AFTER_S:
            process.kill()

    def close(self) -> None:
        living = [process for _, process in self._started.values() if process.poll() is None]
        for process in living:
            process.terminate()
        for process in living:
            try:
                process.wait(STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
