"""What a launcher is: it starts what works on runs, and tells how what it started stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from luthier_kit.runs import Run

WAITING, WORKING, DEAD, GAVE_UP = "WAITING", "WORKING", "DEAD", "GAVE_UP"
"""No process works yet, or none at the moment; one does; it died and may be launched again; nobody will try again."""
RUNNER = "luthier_training.runner"


@dataclass(frozen=True)
class Work:
    """How what was launched for a run stands. `runner` is the name of its process where the launcher gave it."""

    state: str
    runner: str = ""


class Launcher(Protocol):
    """`places`: runs at a time (None: they queue elsewhere). `attempts`: how often a run may begin (None: bounded
    elsewhere). `every_s`: seconds between two looks.
    """

    places: int | None
    attempts: int | None
    every_s: float

    def look(self) -> Mapping[str, Work]:
        """How everything that was launched stands, by run id; a run that is not in it has nothing."""

    def why(self, run_id: str) -> str:
        """Why its work waits, or gave up, for people."""

    def launch(self, run: Run) -> None:
        """Starts work on a run; nothing happens when it was started before.

        Raises Unavailable when that cannot be now, another LuthierError when it never can.
        """

    def stop(self, run_id: str) -> None:
        """Takes away what was launched for a run that has ended or was cancelled. Called again while it is there."""

    def close(self) -> None:
        """The service stops."""


def arguments(run_id: str, processes: int, runner: str = "") -> list[str]:
    """Arguments of python that work on a run: one process, or torchrun with one a GPU."""
    plain = ["-m", RUNNER, run_id, *([runner] if runner else [])]
    # by number, because a cluster's host names need not resolve inside a Pod
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    return plain if processes == 1 else [*torchrun, "--nproc-per-node", str(processes), *plain]
