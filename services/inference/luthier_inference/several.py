"""Several pieces of audio for one request.

    request with seeds ─ job of each seed ─ at once, a thread and a place in the scheduler each ─ response

Each seed is a job and an action of its own: it is stored, found and reused like one that is asked for alone, and the
scheduler puts those that can share a pass into one. The first that fails stops the others and its error is the
request's; what was made until then is stored, so that the same request asked again makes the rest alone. One that finds
no place waits while another of them has one, and is refused only when none has.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Final, TypeVar

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.generator import OnProgress
from luthier_inference.request import GenerationJob
from luthier_kit.rpc import Busy, Cancelled, LuthierError

LOOK_S: Final = 0.1  # how often one without a place looks whether the caller left

R = TypeVar("R")


def all_at_once(
    jobs: Sequence[GenerationJob],
    make: Callable[[GenerationJob, OnProgress], R],
    on_progress: OnProgress,
    stop: threading.Event,
) -> list[R]:
    """What `make` makes of each job, all at once, in the order of the jobs. Sets `stop`, and raises what the first to
    fail raises, when all have left.
    """
    if len(jobs) == 1:
        return [make(jobs[0], on_progress)]
    progress, siblings = AddedUp(jobs, on_progress), _Siblings(stop)

    def made(at: int) -> R:
        try:
            result = siblings.with_a_place(lambda: make(jobs[at], progress.of(at)))
        except LuthierError as error:
            error.metadata = {**error.metadata, "seed": str(jobs[at].parameters.seed)}
            raise
        progress.finished(at)
        return result

    with ThreadPoolExecutor(len(jobs), thread_name_prefix="seed") as executor:
        futures = [executor.submit(contextvars.copy_context().run, made, at) for at in range(len(jobs))]
        ended = wait(futures, return_when=FIRST_EXCEPTION).done
        failed = [future for future in futures if future in ended and future.exception()]
        if failed:  # those that fail from here on, fail because they are stopped
            stop.set()
    return [future.result() for future in failed or futures]


class _Siblings:
    """The jobs of one request: one that finds no place waits for the others."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self._lock = stop, threading.Lock()
        self._at_work = self._made = 0

    def with_a_place(self, make: Callable[[], R]) -> R:
        """What `make` makes. Raises Busy where no place is free and no other of the request has one."""
        while True:
            with self._lock:
                self._at_work += 1
                made = self._made
            try:
                result = make()
                with self._lock:
                    self._made += 1
                return result
            except Busy as error:
                with self._lock:
                    alone = self._at_work == 1
                if alone:
                    raise
                until = time.monotonic() + error.retry_after_s
            finally:
                with self._lock:
                    self._at_work -= 1
            while self._made == made and time.monotonic() < until and not self._stop.wait(LOOK_S):
                pass
            if self._stop.is_set():
                raise Cancelled("the caller went away, or another seed of the request failed")


class AddedUp:
    """The progress of several jobs as that of one: the steps of all, and the time until the last is ready."""

    def __init__(self, jobs: Sequence[GenerationJob], tell: OnProgress) -> None:
        self._tell, self._lock = tell, threading.Lock()
        self._seeds = [job.parameters.seed for job in jobs]
        self._each = [pb.GenerateProgress(total=job.parameters.steps) for job in jobs]
        self._finished = [False] * len(jobs)

    def of(self, at: int) -> OnProgress:
        """To be told the progress of one job."""

        def told(progress: pb.GenerateProgress) -> None:
            with self._lock:
                self._each[at] = progress
                self._tell(self._sum(at))

        return told

    def finished(self, at: int) -> None:
        """A job is done, also one whose audio was there already: all of its steps count."""
        with self._lock:
            self._each[at].step = self._each[at].total
            self._finished[at] = True

    def _sum(self, at: int) -> pb.GenerateProgress:
        eta_s = [one.eta_s for one, finished in zip(self._each, self._finished, strict=True) if not finished]
        began = any(one.step for one in self._each)
        return pb.GenerateProgress(
            step=sum(one.step for one in self._each),
            total=sum(one.total for one in self._each),
            sigma=self._each[at].sigma,
            eta_s=max(eta_s) if all(eta_s) else 0.0,
            ahead=0 if began else min(one.ahead for one in self._each),
            seed=self._seeds[at],
        )
