"""Which checkpoints of a run are kept, and why. Free of torch: the service lists them."""

from collections.abc import Iterable, Sequence

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import (
    KEPT_REASON_BEST,
    KEPT_REASON_EVERY,
    KEPT_REASON_NEWEST,
    KEPT_REASON_PREVIOUS,
    KEPT_REASON_STAGE,
    FineTune,
    KeptCheckpoint,
    KeptReason,
    LossPoint,
    TrainingProgress,
)
from luthier_kit.store import Store
from luthier_training.plan import Plan, keeps_best


def kept_of(progress: TrainingProgress) -> list[KeptCheckpoint]:
    """All checkpoints that a run can be continued from, by step, each with every reason."""
    losses = {point.step: point.loss for point in progress.validation}
    found = {kept.step: _with(kept) for kept in progress.kept}
    for ref, step, why in (
        (progress.previous_checkpoint, progress.previous_checkpoint_step, KEPT_REASON_PREVIOUS),
        (progress.checkpoint, progress.checkpoint_step, KEPT_REASON_NEWEST),
    ):
        if ref.key:
            known = found.get(step) or KeptCheckpoint(step=step, checkpoint=ref, validation_loss=losses.get(step))
            found[step] = _with(known, why)
    return [found[step] for step in sorted(found)]


def best_of(kept: Iterable[KeptCheckpoint]) -> KeptCheckpoint | None:
    """The one of the lowest validation loss."""
    return next((each for each in kept if KEPT_REASON_BEST in each.reasons), None)


def reasons_at(
    step: int, recipe: FineTune, plan: Plan, validation: Sequence[LossPoint], kept: Iterable[KeptCheckpoint]
) -> list[KeptReason]:
    """Why the checkpoint of a step is kept besides being the newest; empty = it is not."""
    reasons = []
    best = best_of(kept)
    measured = bool(step and validation) and validation[-1].step == step
    if keeps_best(recipe) and measured and (best is None or validation[-1].loss < best.validation_loss):
        reasons.append(KEPT_REASON_BEST)
    if recipe.keep_every and step % recipe.keep_every == 0:
        reasons.append(KEPT_REASON_EVERY)
    if any(step == stage.end for stage in plan.stages[:-1]):
        reasons.append(KEPT_REASON_STAGE)
    return reasons


def add(
    progress: TrainingProgress, ref: ArtifactRef, step: int, loss: float | None, reasons: Iterable[KeptReason]
) -> None:
    """Keeps the checkpoint of a step for these reasons. What was the best is kept for its other reasons alone."""
    reasons = list(reasons)
    if not reasons:
        return
    kept = {each.step: each for each in map(_with, progress.kept)}
    if KEPT_REASON_BEST in reasons:
        for each in kept.values():
            others = [why for why in each.reasons if why != KEPT_REASON_BEST]
            each.ClearField("reasons")
            each.reasons.extend(others)
    kept[step] = KeptCheckpoint(step=step, checkpoint=ref, validation_loss=loss, reasons=reasons)
    _replace(progress, (kept[number] for number in sorted(kept) if kept[number].reasons))


def forget_after(progress: TrainingProgress, step: int) -> None:
    """The run goes on from a step: checkpoints of later ones come again."""
    _replace(progress, [_with(each) for each in progress.kept if each.step <= step])


def remove_unnamed(store: Store, run_id: str, progress: TrainingProgress) -> None:
    """Deletes the run's own checkpoints that its progress, as published, no longer names: also those that a runner
    left that died between the two. Those of the run that it continues are another prefix.
    """
    named = {kept.checkpoint.key for kept in kept_of(progress)}
    for key in list(store.objects.keys(f"checkpoints/{run_id}/")):
        if key not in named:
            store.objects.delete(key)


def _with(kept: KeptCheckpoint, *reasons: KeptReason) -> KeptCheckpoint:
    copied = KeptCheckpoint()
    copied.CopyFrom(kept)
    copied.reasons.extend(reasons)
    return copied


def _replace(progress: TrainingProgress, kept: Iterable[KeptCheckpoint]) -> None:
    found = list(kept)
    del progress.kept[:]
    progress.kept.extend(found)
