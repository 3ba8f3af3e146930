"""Checkpoints put back into what is trained: to go on, to begin from another run's, and to export the best."""

from typing import Any

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import EXPORTED_WEIGHTS_BEST_BY_VALIDATION
from luthier_kit.rpc import DataLoss, FailedPrecondition, NotFound
from luthier_model.errors import CheckpointError
from luthier_training import kept
from luthier_training.checkpoints import Progress, Trained
from luthier_training.job import Job

MAX_FAULTS_CHARS = 1000


def restored(job: Job, trained: Trained, ref: ArtifactRef, step: int, *, other_run: bool = False) -> Progress:
    """The state of a stored checkpoint, put into what is trained. CheckpointError, DataLoss or NotFound when it cannot
    be read, is of another model or of another step.
    """
    saved = job.store.blobs.fetch(ref, job.folder("resume"))
    try:
        progress = trained.restore(saved, other_run=other_run)
    finally:
        saved.unlink()
    if progress.step != step:
        raise CheckpointError(f"it says step {progress.step}, the run says {step}")
    return progress


def continued(job: Job, trained: Trained) -> Progress:
    """From the kept checkpoint of another run: at its step of the same plan, or before the first of an own one.

    FailedPrecondition CHECKPOINT_MISMATCH when it is of another model, DataLoss CHECKPOINT_CORRUPT when it is gone.
    """
    source, asked = job.reporter.progress.continued_from, job.request.fine_tune.continue_from
    try:
        progress = restored(job, trained, source.checkpoint, source.step, other_run=not asked.same_plan)
    except CheckpointError as error:
        text = f"{asked.run_id} cannot be continued from step {source.step}: {error}"
        raise FailedPrecondition(text[:MAX_FAULTS_CHARS], reason="CHECKPOINT_MISMATCH") from None
    except (DataLoss, NotFound) as error:
        text = f"the checkpoint of step {source.step} of {asked.run_id} cannot be read: {error}"
        raise DataLoss(text[:MAX_FAULTS_CHARS], reason="CHECKPOINT_CORRUPT") from None
    return progress if asked.same_plan else Progress()


def choose_export(job: Job, trained: Trained, progress: Progress) -> dict[str, Any]:
    """Puts the weights that are asked for into what is trained; which they are, as notes of the version.

    DataLoss CHECKPOINT_CORRUPT when the best cannot be read: the last can then be exported by a run that continues.
    """
    best = kept.best_of(job.reporter.progress.kept)
    if job.request.fine_tune.export != EXPORTED_WEIGHTS_BEST_BY_VALIDATION or best is None:
        loss = progress.validation[-1].loss if progress.validation else None
        return {"exported": "last", "exported_step": progress.step, "exported_validation": loss}
    try:
        if best.step != progress.step:
            restored(job, trained, best.checkpoint, best.step)
    except (CheckpointError, DataLoss, NotFound) as error:
        text = f"the best checkpoint, of step {best.step}, cannot be read; continue the run to export the last: {error}"
        raise DataLoss(text[:MAX_FAULTS_CHARS], reason="CHECKPOINT_CORRUPT") from None
    return {"exported": "best", "exported_step": best.step, "exported_validation": best.validation_loss}
