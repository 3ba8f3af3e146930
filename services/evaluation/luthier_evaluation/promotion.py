"""Promotion: a model version becomes the current one of a name, because an evaluation speaks for it.

Gates: the evaluation has succeeded and covers this very digest, few of its rows failed, and against its baseline no
gate metric is worse beyond chance (one-sided sign-flip test over paired rows, 5 % over all gate metrics together). With
`force` a person overrules them; which gates failed, and the reason, stay in the version. Promoting an older digest is
a rollback: the evaluation recorded when it was promoted under this name speaks for it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from luthier_evaluation import plan as plans
from luthier_evaluation.metrics import METRICS
from luthier_evaluation.scores import difference_name
from luthier_kit import models
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import FailedPrecondition, NotFound
from luthier_kit.models import ModelVersion
from luthier_kit.runs import SUCCEEDED, Run, RunLog

SIGNIFICANT = 0.05  # over all gate metrics together, shared evenly among them (Bonferroni)
MOST_FAILED = 0.1  # share of rows; beyond it the scores speak of too little


@dataclass(frozen=True)
class Promotion:
    """Who wants which version under which name, and why. `evaluation_id` may be empty."""

    name: str
    model: str
    evaluation_id: str
    promoted_by: str
    reason: str
    force: bool


def promote(store: Artifacts, asked: Promotion) -> tuple[ModelVersion, bool]:
    """The new current version of the name, and whether it already was.

    Raises NotFound for an unknown model or evaluation, FailedPrecondition PROMOTION_REFUSED naming every gate that
    failed.
    """
    version = models.resolve(store, asked.model)
    history = models.versions(store, asked.name)
    evaluation_id = asked.evaluation_id or _evaluation_before(history, version.digest)
    failed = gates_failed(store, evaluation_id, f"sha256:{version.digest}")
    if failed and not asked.force:
        text = f"{asked.model} is not promoted to {asked.name}: {'; '.join(failed)} (force overrules, with a reason)"
        raise FailedPrecondition(text, reason="PROMOTION_REFUSED")
    current = history[-1] if history else None
    if current and current.digest == version.digest and current.evaluation == evaluation_id:
        return current, True
    notes = {**version.notes, "promoted_from": version.label, "overruled": failed}
    promoted = replace(
        version,
        name=asked.name,
        evaluation=evaluation_id,
        notes=notes,
        created_by=asked.promoted_by,
        reason=asked.reason,
        created_at="",
        n=0,
    )
    return models.register(store, promoted), False


def gates_failed(store: Artifacts, evaluation_id: str, digest: str) -> list[str]:
    """Why the evaluation does not speak for `digest`, one line each; empty = it does. NotFound for an unknown one."""
    if not evaluation_id:
        return ["no evaluation is named, and none was recorded with this digest under this name"]
    run = RunLog(store, evaluation_id).read()
    if run.kind != "evaluation":
        raise NotFound(f"no evaluation {evaluation_id[:128]!r}", reason="RUN_NOT_FOUND")
    if run.state != SUCCEEDED:
        return [f"{evaluation_id} is {run.state}, not SUCCEEDED"]
    plan = plans.from_document(run.request["plan"])
    if plan.candidate.digest != digest:
        return [f"{evaluation_id} measured {plan.candidate.label} ({plan.candidate.digest}), not {digest}"]
    return _rows_failed(run, plan.total) + _worse(run.result["scores"], difference_name(plan))


def _rows_failed(run: Run, total: int) -> list[str]:
    failed = run.result["failed_rows"]
    return [f"{failed} of {total} rows failed, more than {MOST_FAILED:.0%}"] if failed > MOST_FAILED * total else []


def _worse(scores: Sequence[Mapping[str, Any]], difference: str) -> list[str]:
    gates = {metric.name for metric in METRICS if metric.gate}
    return [
        f"{score['metric']} is worse than the baseline's by {-score['value']:.3f} "
        f"(95 % interval of the difference {score['low']:+.3f} to {score['high']:+.3f}, p = {score['p'] / 2:.2g})"
        for score in scores
        if difference and score["model"] == difference and score["metric"] in gates
        if score["p"] is not None and score["value"] < 0 and score["p"] / 2 < SIGNIFICANT / len(gates)
    ]


def _evaluation_before(history: Sequence[ModelVersion], digest: str) -> str:
    return next((old.evaluation for old in reversed(history) if old.digest == digest and old.evaluation), "")
