"""Promotion: a model version becomes the current one of a name, because an evaluation supports it.

Gates: the evaluation has succeeded and covers this very digest, few of its rows failed, and against its baseline no
gate metric is worse beyond chance (one-sided sign-flip test over paired rows, 5 % over all gate metrics together). With
`force` a person overrules them; which gates failed, and the reason, stay in the version. Promoting an older digest is
a rollback: the evaluation recorded when it was promoted under this name supports it again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.registry.v1.registry_pb2 import RunState
from luthier_evaluation.metrics import METRICS
from luthier_evaluation.plan import candidate, evaluation_log, total_rows
from luthier_evaluation.scores import difference_name
from luthier_kit.registry import (
    PROMOTED_FROM,
    RUN_STATE_SUCCEEDED,
    ModelVersion,
    refuse_unfit,
    register,
    resolve,
    versions,
)
from luthier_kit.rpc import FailedPrecondition, actor
from luthier_kit.store import Store

SIGNIFICANT: Final = 0.05  # over all gate metrics together, shared evenly among them (Bonferroni)
MAX_FAILED: Final = 0.1  # share of rows; beyond it the scores rest on too little


def promote(store: Store, request: pb.PromoteModelRequest) -> tuple[ModelVersion, bool]:
    """The new current version of the name, and whether it already was.

    Raises NotFound for an unknown model or evaluation, FailedPrecondition PROMOTION_REFUSED naming every gate that
    failed, and TRANSFORMER_UNFIT, which nothing overrules: no server would generate with it.
    """
    version = resolve(store, request.model)
    refuse_unfit(version)
    history = versions(store, request.name)
    recorded = (old.evaluation for old in reversed(history) if old.digest == version.digest and old.evaluation)
    evaluation_id = request.evaluation_id or next(recorded, "")
    failed = gates_failed(store, evaluation_id, f"sha256:{version.digest}")
    if failed and not request.force:
        reasons = "; ".join(failed)
        text = f"{request.model} is not promoted to {request.name}: {reasons} (force overrules, with a reason)"
        raise FailedPrecondition(text, reason="PROMOTION_REFUSED")
    current = history[-1] if history else None
    if current and current.digest == version.digest and current.evaluation == evaluation_id:
        return current, True
    promoted = replace(
        version,
        name=request.name,
        evaluation=evaluation_id,
        notes={**version.notes, PROMOTED_FROM: version.label, "overruled": failed},
        created_by=actor(request.promoted_by),
        reason=request.reason,
        created_at=None,
        n=0,
    )
    return register(store, promoted, promotion=True), False


def gates_failed(store: Store, evaluation_id: str, digest: str) -> Sequence[str]:
    """Why the evaluation does not support `digest`, one line each; empty = it does. NotFound for an unknown one."""
    if not evaluation_id:
        return ["no evaluation is named, and none was recorded with this digest under this name"]
    run = evaluation_log(store, evaluation_id).read()
    if run.state != RUN_STATE_SUCCEEDED:
        return [f"{evaluation_id} is {RunState.Name(run.state).removeprefix('RUN_STATE_')}, not SUCCEEDED"]
    plan, measured = run.request, candidate(run.request)
    if measured.model_digest != digest:
        return [f"{evaluation_id} measured {measured.model} ({measured.model_digest}), not {digest}"]
    failed, total = run.result.failed_rows, total_rows(plan)
    reasons = [f"{failed} of {total} rows failed, more than {MAX_FAILED:.0%}"] if failed > MAX_FAILED * total else []
    gates = {metric.name for metric in METRICS if metric.gate}
    for score in run.result.scores:
        if score.model != difference_name(plan) or score.metric not in gates or not score.HasField("p"):
            continue
        one_sided_p = score.p / 2
        if score.value < 0 and one_sided_p < SIGNIFICANT / len(gates):
            reasons.append(
                f"{score.metric} is worse than the baseline's by {-score.value:.3f} "
                f"(95 % interval of the difference {score.low:+.3f} to {score.high:+.3f}, p = {one_sided_p:.2g})"
            )
    return reasons
