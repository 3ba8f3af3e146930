"""Checkpoints put back into what is trained: to go on, to begin from another run's, and to export the best."""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    ContinueFrom,
    ExportedWeights,
    LossPoint,
)
from luthier_kit.rpc import DataLoss, FailedPrecondition, NotFound
from luthier_model.errors import CheckpointError
from luthier_training import kept
from luthier_training.checkpoints import Progress, Trained
from luthier_training.job import Job
from luthier_training.reporting import RankLost

log = logging.getLogger(__name__)
MAX_FAULTS_CHARS = 1000


class Numbers(Protocol):
    """The numbers of a run in its checkpoints."""

    step: int


N = TypeVar("N", bound=Numbers)


def newest(job: Job, restore: Callable[[Path], N], beginning: Callable[[], N]) -> N:
    """From the newest checkpoint of the run that can be read, which `restore` puts back; the beginning when there is
    none yet.

    DataLoss CHECKPOINT_CORRUPT when none that the run has can be read. Raises RankLost when ranks read different ones.
    """
    noted = job.reporter.progress
    checkpoints = [
        (noted.checkpoint, noted.checkpoint_step),
        (noted.previous_checkpoint, noted.previous_checkpoint_step),
    ]
    checkpoints = [(ref, step) for ref, step in checkpoints if ref.key]
    faults = []
    for ref, step in checkpoints:
        try:
            progress = _read(job, restore, ref, step)
        except (CheckpointError, DataLoss, NotFound) as error:
            log.warning("the checkpoint of step %d, %s, cannot be read: %s", step, ref.key, error)
            faults.append(f"step {step}: {error}")
            continue
        break
    else:
        if faults:
            text = "the run cannot go on from its checkpoints: " + "; ".join(faults)
            raise DataLoss(text[:MAX_FAULTS_CHARS], reason="CHECKPOINT_CORRUPT")
        progress = beginning()
    if faults:
        job.reporter.use_previous_checkpoint()
    if job.ranks.mean(progress.step) != progress.step:
        raise RankLost("the ranks go on from different checkpoints")
    return progress


def _read(job: Job, restore: Callable[[Path], N], ref: ArtifactRef, step: int) -> N:
    """CheckpointError, DataLoss or NotFound when it cannot be read, is of another model or of another step."""
    saved = job.store.blobs.fetch(ref, job.folder("resume"))
    try:
        progress = restore(saved)
    finally:
        saved.unlink()
    if progress.step != step:
        raise CheckpointError(f"it says step {progress.step}, the run says {step}")
    return progress


def continued(job: Job, trained: Trained) -> Progress:
    """From the kept checkpoint of another run: at its step of the same plan, or before the first of an own one."""
    asked = job.request.fine_tune.continue_from
    progress = of_other_run(job, functools.partial(trained.restore, other_run=not asked.same_plan), asked)
    return progress if asked.same_plan else Progress()


def of_other_run(job: Job, restore: Callable[[Path], N], asked: ContinueFrom) -> N:
    """The state of the kept checkpoint of another run, which `restore` puts back.

    FailedPrecondition CHECKPOINT_MISMATCH when it is of another model, DataLoss CHECKPOINT_CORRUPT when it is gone.
    """
    source = job.reporter.progress.continued_from
    try:
        return _read(job, restore, source.checkpoint, source.step)
    except CheckpointError as error:
        text = f"{asked.run_id} cannot be continued from step {source.step}: {error}"
        raise FailedPrecondition(text[:MAX_FAULTS_CHARS], reason="CHECKPOINT_MISMATCH") from None
    except (DataLoss, NotFound) as error:
        text = f"the checkpoint of step {source.step} of {asked.run_id} cannot be read: {error}"
        raise DataLoss(text[:MAX_FAULTS_CHARS], reason="CHECKPOINT_CORRUPT") from None


def choose_export(
    job: Job, export: ExportedWeights, restore: Callable[[Path], N], step: int, validation: Sequence[LossPoint]
) -> dict[str, Any]:
    """Puts the weights that are asked for into what is trained, which has done so many steps; which they are, as notes
    of the version.

    DataLoss CHECKPOINT_CORRUPT when the best cannot be read: the last can then be exported by a run that continues.
    """
    best = kept.best_of(job.reporter.progress.kept)
    if export != EXPORTED_WEIGHTS_BEST_BY_VALIDATION or best is None:
        loss = validation[-1].loss if validation else None
        return {"exported": "last", "exported_step": step, "exported_validation": loss}
    try:
        if best.step != step:
            _read(job, restore, best.checkpoint, best.step)
    except (CheckpointError, DataLoss, NotFound) as error:
        text = f"the best checkpoint, of step {best.step}, cannot be read; continue the run to export the last: {error}"
        raise DataLoss(text[:MAX_FAULTS_CHARS], reason="CHECKPOINT_CORRUPT") from None
    return {"exported": "best", "exported_step": best.step, "exported_validation": best.validation_loss}
