"""Training runs, as the store keeps them and as callers see them."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from luthier.training.v1 import training_pb2 as pb
from luthier_kit.registry import Run, RunKind, RunLog, RunState, timestamp
from luthier_training.kept import kept_of

TrainingRun = Run[pb.CreateTrainingRunRequest, pb.TrainingProgress, pb.TrainingResult]
TrainingRunLog = RunLog[pb.CreateTrainingRunRequest, pb.TrainingProgress, pb.TrainingResult]


def old_progress(value: Mapping[str, Any]) -> pb.TrainingProgress:
    """What Luthier 0.1 stored: losses as pairs of step and loss."""
    losses = {
        name: [{"step": step, "loss": loss} for step, loss in value.get(name, ())]
        for name in ("validation", "training")
    }
    progress = pb.TrainingProgress()
    ParseDict({**value, **losses}, progress, ignore_unknown_fields=True)
    return progress


KIND = RunKind(
    "training", pb.CreateTrainingRunRequest, pb.TrainingProgress, pb.TrainingResult, old_progress=old_progress
)


def to_message(run: TrainingRun) -> pb.TrainingRun:
    """A run as callers see it."""
    progress = run.progress
    message = pb.TrainingRun(
        run_id=run.id,
        state=RunState.Name(run.state),
        stage=run.waiting_for or progress.stage,
        done=progress.done,
        total=progress.total,
        validation=progress.validation,
        error=run.error,
        model=run.result.model,
        model_digest=run.result.model_digest,
        request=run.request,
        created_at=timestamp(run.created_at),
        updated_at=timestamp(run.updated_at),
        sequence=run.seq,
        attempts=run.attempts,
        training=progress.training,
        checkpoint=progress.checkpoint if progress.HasField("checkpoint") else None,
        base=progress.base,
        training_stage=progress.training_stage,
        kept=kept_of(progress),
        validation_by_dataset=progress.validation_by_dataset,
        continued_from=progress.continued_from if progress.HasField("continued_from") else None,
        samples=progress.samples,
        logs=progress.logs,
        validation_by_timestep=progress.validation_by_timestep,
        fidelity=progress.fidelity,
        discriminator=progress.discriminator,
        memory=progress.memory if progress.HasField("memory") else None,
    )
    if progress.HasField("eta_s") and not run.waiting_for:
        message.eta_s = progress.eta_s
    if progress.HasField("loss"):
        message.loss = progress.loss
    if progress.HasField("learning_rate"):
        message.learning_rate, message.gradient_norm = progress.learning_rate, progress.gradient_norm
    return message
