"""What requests take of their callers' quotas.

Before anything is computed the most that a request may take is reserved: a call, seconds and steps for each seed or
try. Where that is more than is left, what is stored already is looked up, which costs a call alone. In the end

* a piece that was made costs a call, its seconds and its steps; a stored one costs a call;
* one that its caller gave up (cancelled, deadline) costs a call and the steps that were made;
* what was refused, or failed by a fault of ours, costs nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.generator import OnProgress
from luthier_inference.request import GenerationJob
from luthier_kit.quotas import Amount, Quotas
from luthier_kit.rpc import Cancelled, DeadlineExceeded, FailedPrecondition, current_caller
from luthier_model.generation import fitted

OFF: Final = "this server counts nobody's use: LUTHIER_CALLER_QUOTAS is empty"


def cost(job: GenerationJob) -> Amount:
    """What a job takes that is not stored."""
    p = job.parameters
    seconds = fitted(job.served.configuration, p).window_s if p.untrimmed else p.seconds_total
    return Amount(1, seconds, p.steps)


@dataclass
class Piece:
    """One seed, or one try, of a request. `took` is set once it is answered."""

    job: GenerationJob
    steps: int = 0
    took: Amount | None = None

    def watching(self, on_progress: OnProgress) -> OnProgress:
        """Counts the steps that are told."""

        def told(progress: pb.GenerateProgress) -> None:
            self.steps = max(self.steps, progress.step)
            on_progress(progress)

        return told

    def answered(self, *, reused: bool) -> None:
        self.took = Amount(calls=1) if reused else cost(self.job)


@dataclass
class Account:
    """What one request takes."""

    pieces: list[Piece] = field(default_factory=list)

    def piece(self, job: GenerationJob) -> Piece:
        """A piece that is about to be made or found."""
        piece = Piece(job)
        self.pieces.append(piece)
        return piece

    def took(self, *, given_up: bool) -> Amount:
        """All that was taken until now."""
        left = (Amount(calls=1, steps=piece.steps) for piece in self.pieces if piece.took is None and piece.steps)
        answered = sum((piece.took for piece in self.pieces if piece.took), Amount())
        return sum(left, answered) if given_up else answered


class Spending:
    """Accounts of requests. Without quotas nothing is counted."""

    def __init__(self, quotas: Quotas | None) -> None:
        self._quotas = quotas

    @contextmanager
    def request(self, jobs: Sequence[GenerationJob], is_stored: Callable[[GenerationJob], bool]) -> Iterator[Account]:
        """The account of a request of so many jobs; QuotaExceeded when they are more than its caller has left."""
        account = Account()
        if self._quotas is None:
            yield account
            return
        caller, each = current_caller.get(), cost(jobs[0])
        most = _times(each, len(jobs), len(jobs))
        if not self._quotas.fits(caller, most):
            most = _times(each, len(jobs), sum(not is_stored(job) for job in jobs))
        reservation = self._quotas.reserve(caller, most)
        given_up = False
        try:
            yield account
        except (Cancelled, DeadlineExceeded):
            given_up = True
            raise
        finally:
            reservation.settle(account.took(given_up=given_up))

    def own(self) -> pb.GetUsageResponse:
        """What the caller had."""
        quotas = self._known()
        return pb.GetUsageResponse(usage=_usage(quotas, current_caller.get()), renewed_at=_renewed_at(quotas))

    def everyones(self) -> pb.ListUsageResponse:
        """What each caller had."""
        quotas = self._known()
        rows = [_usage(quotas, caller) for caller in quotas.callers()]
        return pb.ListUsageResponse(callers=rows, renewed_at=_renewed_at(quotas))

    def _known(self) -> Quotas:
        if self._quotas is None:
            raise FailedPrecondition(OFF, reason="QUOTAS_OFF")
        return self._quotas


def _times(each: Amount, calls: int, made: int) -> Amount:
    return Amount(calls, each.audio_seconds * made, each.steps * made)


def _usage(quotas: Quotas, caller: str) -> pb.Usage:
    spent, quota = quotas.spent(caller), quotas.of(caller)
    return pb.Usage(
        caller=caller,
        calls=spent.calls,
        max_calls=quota.calls,
        audio_seconds=spent.audio_seconds,
        max_audio_seconds=quota.audio_seconds,
        steps=spent.steps,
        max_steps=quota.steps,
    )


def _renewed_at(quotas: Quotas) -> Timestamp:
    at = Timestamp()
    at.FromDatetime(quotas.renewed_at())
    return at
