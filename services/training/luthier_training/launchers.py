"""Who starts runners. `local` starts a process beside the service; a cluster's launcher is one more line in
LAUNCHERS.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

STOP_PATIENCE_S = 20.0


class Launcher(Protocol):
    """Starts runners and knows which of its own still live. `runner` is a name that no process had before."""

    def launch(self, run_id: str, runner: str) -> None: ...

    def alive(self, runner: str) -> bool | None:
        """True or False for a runner of its own; None for one that it does not know."""

    def close(self) -> None:
        """Tells its runners to go after their next checkpoint, and waits a little."""


class LocalLauncher:
    """A process per runner, in a session of its own, with the service's environment."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def launch(self, run_id: str, runner: str) -> None:
        command = [sys.executable, "-m", "luthier_training.runner", run_id, runner]
        # idle OpenMP threads that spin take the cores of whoever shares the machine
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"}
        self._processes[runner] = subprocess.Popen(command, env=environment, start_new_session=True)

    def alive(self, runner: str) -> bool | None:
        process = self._processes.get(runner)
        return None if process is None else process.poll() is None

    def close(self) -> None:
        living = [process for process in self._processes.values() if process.poll() is None]
        for process in living:
            process.terminate()
        for process in living:
            try:
                process.wait(STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


LAUNCHERS: dict[str, Callable[[], Launcher]] = {"local": LocalLauncher}
