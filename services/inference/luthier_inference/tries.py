"""The best of several tries: one seed after another, until the music asked for is heard.

    seed ─ made and stored ─ heard ─ as asked? ─ yes: answered
      └──────────── next seed ◀────────┘ no: until there are no more tries, then the best is answered

The first seed is the request's, each further one follows from it, so that a retry on any server tries the same seeds
and finds those that were made. The best has the most of tempo and key as they were asked for; among equals that where
the others are nearest (a key by MIREX's weights, a tempo as Accuracy 2 counts), then that whose tempo is least off,
then the first. Audio that cannot be measured ends the tries: more would be no use. So does a deadline that is too near
for one more.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.generator import OnProgress
from luthier_inference.heard import Hearing
from luthier_inference.request import GenerationJob
from luthier_inference.scheduler import TOO_NEAR
from luthier_kit.rpc import Cancelled, LuthierError

NO_TIME: Final = "best_of: the call's deadline is too near for another try"
NOT_MEASURED: Final = "best_of: the last try could not be measured, so that there was no other"

Make = Callable[[GenerationJob, OnProgress], pb.GenerateResponse]
Hear = Callable[[GenerationJob, pb.GenerateResponse], Hearing]


@dataclass(frozen=True)
class Try:
    """What one seed made, and what is heard of it."""

    made: pb.GenerateResponse
    hearing: Hearing


def seed_of(first: int, number: int) -> int:
    """The seed of a try, of which the first is number 1: 64 bits that follow from the first seed."""
    if number == 1:
        return first
    return int.from_bytes(hashlib.sha256(f"{first}/{number}".encode()).digest()[:8])


def jobs_tried(job: GenerationJob, most: int) -> list[GenerationJob]:
    """The jobs of at most so many tries, in their order."""
    seeds = (seed_of(job.parameters.seed, number) for number in range(1, most + 1))
    return [replace(job, parameters=replace(job.parameters, seed=seed)) for seed in seeds]


def best(tries: list[Try]) -> int:
    """Which is the best, the first of equals."""
    return max(range(len(tries)), key=lambda at: (tries[at].hearing.rank(), -at))


def best_of(
    most: int, job: GenerationJob, make: Make, hear: Hear, on_progress: OnProgress, stop: threading.Event
) -> pb.GenerateResponse:
    """The response of the best of at most so many tries, with all that were made. Raises what `make` raises, but for
    a deadline that is too near where there is something to answer; Cancelled when `stop` is set.
    """
    tries: list[Try] = []
    jobs, note = jobs_tried(job, most), ""
    while len(tries) < most and not note and not (tries and tries[-1].hearing.obeyed):
        number = len(tries) + 1
        if stop.is_set():
            raise Cancelled("the caller went away between two tries")
        try:
            made = make(jobs[number - 1], _numbered(number, on_progress))
        except LuthierError as error:
            if error.reason != TOO_NEAR or not tries:
                raise
            note = NO_TIME
            continue
        tries.append(Try(made, hear(jobs[number - 1], made)))
        if not tries[-1].hearing.measured:
            note = NOT_MEASURED
    chosen = best(tries)
    response = pb.GenerateResponse()
    response.CopyFrom(tries[chosen].made)
    response.heard.extend(tries[chosen].hearing.fields)
    response.best_of = most
    response.tries.extend(
        pb.GenerationTry(
            seed=one.made.seed,
            audio=one.made.audio,
            heard=one.hearing.fields,
            compute_s=one.made.compute_s,
            reused=one.made.action.reused,
            chosen=at == chosen,
        )
        for at, one in enumerate(tries)
    )
    if note and len(tries) < most:
        response.notes.append(f"{note}; {len(tries)} of {most} were made")
    return response


def _numbered(number: int, on_progress: OnProgress) -> OnProgress:
    def told(progress: pb.GenerateProgress) -> None:
        progress.try_number = number
        on_progress(progress)

    return told
