"""How a runner publishes what it does, shows that it is alive, and learns that it should stop."""

import logging
import math
import threading
import time
from collections.abc import Sequence

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import LossPoint, TrainingProgress
from luthier_kit.registry import EXPIRY_S
from luthier_kit.rpc import LuthierError
from luthier_training.kept import forget_after
from luthier_training.runs import TrainingRunLog

log = logging.getLogger(__name__)
HEARTBEAT_INTERVAL_S = EXPIRY_S / 4
POLL_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 600.0
"""How long the heartbeat goes on once the run should stop: a step, a validation and the storing of a large checkpoint
take less, and a runner that hangs must not keep a cancelled run for ever.
"""
SHORTEST_PAUSE_S, SHARE_OF_ELAPSED = 1.0, 0.01
"""Progress is published at most once a second, and ever more rarely in long runs: some hundreds of events in all."""


class Stopped(Exception):
    """The run was cancelled, this process was asked to end, or it is a rank other than 0 and has no more to do."""


class RankLost(Exception):
    """Another rank of the run died; torchrun ends this one soon."""


class Reporter:
    """Progress of one run, published to its log; without one (a rank other than 0) nothing is published.

    `going` is False once the run should stop; `stop_by` says until when the heartbeat then goes on, in seconds of the
    monotonic clock.
    """

    def __init__(self, progress: TrainingProgress, own: TrainingRunLog | None = None) -> None:
        self._log, self.progress = own, TrainingProgress()
        self.progress.CopyFrom(progress)
        self._began = self._stage_began = time.monotonic()
        self._due, self._done_at_stage, self.stop_by = 0.0, 0, math.inf

    @property
    def going(self) -> bool:
        return self.stop_by == math.inf

    def stop(self) -> None:
        """Asks the run to stop after its next checkpoint."""
        self.stop_by = min(self.stop_by, time.monotonic() + STOP_TIMEOUT_S)

    def check(self) -> None:
        """Raises Stopped when it should stop."""
        if not self.going:
            raise Stopped

    def stage(self, name: str, total: int = 0, done: int = 0) -> None:
        """A new stage begins, `done` of `total` already there."""
        self._stage_began, self._done_at_stage = time.monotonic(), done
        self.progress.stage, self.progress.done, self.progress.total = name, done, total
        self.progress.ClearField("eta_s")
        self.publish()
        self.check()

    def advance(
        self,
        done: int,
        total: int,
        loss: float | None = None,
        training: Sequence[LossPoint] = (),
        validation: Sequence[LossPoint] = (),
    ) -> None:
        """Progress within a stage; published when an event is due. Losses that are not given stay as they were."""
        progress, fresh = self.progress, done - self._done_at_stage
        progress.done, progress.total = done, total
        if fresh > 0:
            progress.eta_s = round((time.monotonic() - self._stage_began) / fresh * (total - done), 1)
        if loss is not None:
            progress.loss = loss
        for field, points in ((progress.training, training), (progress.validation, validation)):
            if points:
                del field[:]
                field.extend(points)
        if time.monotonic() >= self._due or done == total:
            self.publish()

    def checkpoint(self, ref: ArtifactRef, step: int) -> None:
        """A checkpoint is stored: say so now, with what is kept besides."""
        progress = self.progress
        if progress.HasField("checkpoint") and progress.checkpoint.key != ref.key:
            progress.previous_checkpoint.CopyFrom(progress.checkpoint)
            progress.previous_checkpoint_step = progress.checkpoint_step
        progress.checkpoint.CopyFrom(ref)
        progress.checkpoint_step = step
        self.publish()

    def use_previous_checkpoint(self) -> None:
        """The newest checkpoint cannot be read: the one before is the newest from now on."""
        self.progress.checkpoint.CopyFrom(self.progress.previous_checkpoint)
        self.progress.checkpoint_step = self.progress.previous_checkpoint_step
        forget_after(self.progress, self.progress.checkpoint_step)
        self.forget_previous_checkpoint()

    def forget_previous_checkpoint(self) -> None:
        """The checkpoint before the newest is of no more use: say so now."""
        self.progress.ClearField("previous_checkpoint")
        self.progress.ClearField("previous_checkpoint_step")
        self.publish()

    def publish(self) -> None:
        """Publishes the progress as it is now."""
        if self._log is None:
            return
        published = TrainingProgress()
        published.CopyFrom(self.progress)  # the log keeps what it is given
        self._log.progress(published)
        now = time.monotonic()
        self._due = now + max(SHORTEST_PAUSE_S, SHARE_OF_ELAPSED * (now - self._began))


class HeartbeatThread:
    """Shows that the runner is alive, and stops its reporter on a cancel event or when the run has another runner.

    `own` is a log that nobody else uses. `cancelled` says whether it was a cancel event.
    """

    def __init__(self, own: TrainingRunLog, reporter: Reporter) -> None:
        self._log, self._reporter = own, reporter
        self._closed, self.cancelled = threading.Event(), False
        self._thread = threading.Thread(target=self._loop, daemon=True, name="heartbeat")
        self._thread.start()

    def close(self) -> None:
        """The attempt is over: no heartbeat comes after this."""
        self._closed.set()
        self._thread.join()
        self._log.heartbeat.stop()

    def _loop(self) -> None:
        beat_due = 0.0
        while time.monotonic() < self._reporter.stop_by and not self._closed.wait(POLL_INTERVAL_S):
            try:
                if time.monotonic() >= beat_due:
                    self._log.heartbeat.beat()
                    beat_due = time.monotonic() + HEARTBEAT_INTERVAL_S
                run = self._log.read()
                if run.cancellation or run.ended or run.runner != self._log.runner:
                    self.cancelled = run.cancellation is not None
                    self._reporter.stop()
            except LuthierError as error:
                log.warning("the store does not answer: %s", error)
