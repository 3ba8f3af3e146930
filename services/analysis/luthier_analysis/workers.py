"""Child processes that do the work.

essentia holds the GIL for seconds at a time: in threads two calls take as long as one after the other, and health
checks wait. So each slot has a process. One that dies or overruns is replaced, and no other call fails.
"""

from luthier_kit.rpc import Cancelled, DeadlineExceeded, FailedPrecondition, QuotaExceeded
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import ParamSpec, TypeVar

import grpc
from pebble import ProcessExpired, ProcessPool

from luthier_analysis import jobs
from luthier_kit import exits

MAX_JOB_S = 1800.0  # the longest audio at real time, a hundred times slower than it should be
MAX_DEATHS = 3  # of children on one job, one after another: then it is the audio
JOBS_PER_CHILD = 500  # then a fresh process, so that no leak grows for days
_PR_SET_PDEATHSIG = 1

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A pool of `count` spawned processes."""

    def __init__(self, count: int) -> None:
        for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(library, "1")  # the slots are the parallelism; children inherit this
        context = multiprocessing.get_context("spawn")
        self._count = count
        self._pool = ProcessPool(count, max_tasks=JOBS_PER_CHILD, initializer=_die_with_parent, context=context)

    def warm_up(self) -> None:
        """Start every process and import what the jobs need."""
        for future in [self._pool.schedule(jobs.warm_up) for _ in range(self._count)]:
            future.result()

    def run(self, context: grpc.ServicerContext, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a job in a child within the call's deadline; the child is stopped when the caller goes away.

        Raises what the job raises, Cancelled, DeadlineExceeded. When one child after another died of it:
        FailedPrecondition ANALYSIS_CRASHED, which is remembered, if all crashed; QuotaExceeded ANALYSIS_KILLED, which
        is not, if any was killed: for memory, most likely.
        """
        codes: list[int] = []
        while len(codes) < MAX_DEATHS:
            try:
                return self._once(context, job, *args, **kwargs)
            except ProcessExpired as error:
                codes.append(error.exitcode)
        text = f"{MAX_DEATHS} worker processes in a row died of this audio, the last with {exits.told(codes[-1])}"
        if all(map(exits.crashed, codes)):
            raise FailedPrecondition(text, reason="ANALYSIS_CRASHED")
        raise QuotaExceeded(text, reason="ANALYSIS_KILLED")

    def _once(self, context: grpc.ServicerContext, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        left_s = context.time_remaining()
        timeout_s = MAX_JOB_S if left_s is None else min(left_s, MAX_JOB_S)
        future = self._pool.schedule(job, args=args, kwargs=kwargs, timeout=timeout_s)
        if not context.add_callback(future.cancel):
            future.cancel()  # type: ignore[no-untyped-call]
        try:
            return future.result()
        except CancelledError as error:
            raise Cancelled("the caller went away") from error
        except TimeoutError as error:
            raise DeadlineExceeded(f"not done within {timeout_s:.0f} s", reason="DEADLINE_EXCEEDED") from error

    def close(self) -> None:
        """Stop all processes."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _die_with_parent() -> None:
    """A killed service leaves no orphans that hold memory and cores (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
