"""What a launcher is: it starts the processes that work on runs, and says how they stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from luthier_training.runs import TrainingRun

RUNNER_MODULE = "luthier_training.runner"


class WorkState(StrEnum):
    """How what was launched for a run stands."""

    WAITING = "WAITING"
    """No process works yet, or none at the moment; one will."""
    RUNNING = "RUNNING"
    """A process works."""
    EXITED = "EXITED"
    """The process ended; the run may be launched again."""
    FINISHED = "FINISHED"
    """It ended for good: nobody will try again."""


@dataclass(frozen=True)
class Work:
    """What was launched for a run. `runner` is the name of its process where the launcher gave it."""

    state: WorkState
    runner: str = ""


class Launcher(Protocol):
    """`slots`: runs at a time (None: they queue elsewhere). `max_attempts`: how often a run may begin (None: bounded
    elsewhere). `poll_interval_s`: seconds between two looks at the runs.
    """

    slots: int | None
    max_attempts: int | None
    poll_interval_s: float

    def list_work(self) -> Mapping[str, Work]:
        """What was launched, by run id; a run that is not in it has nothing."""

    def describe(self, run_id: str) -> str:
        """Why a run's work waits, or how it ended, for people."""

    def launch(self, run: TrainingRun) -> None:
        """Starts work on a run; nothing happens when it was started before.

        Raises Unavailable when that cannot be now, another LuthierError when it never can.
        """

    def stop(self, run_id: str) -> None:
        """Ends what was launched for a run that has ended or was cancelled. Called again while it is there."""

    def close(self) -> None:
        """The service stops."""


def runner_arguments(run_id: str, processes: int, runner: str = "") -> list[str]:
    """Arguments of python that work on a run: one process, or torchrun with that many."""
    plain = ["-m", RUNNER_MODULE, run_id, *([runner] if runner else [])]
    # by number, because a cluster's host names need not resolve inside a Pod
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    return plain if processes == 1 else [*torchrun, "--nproc-per-node", str(processes), *plain]
