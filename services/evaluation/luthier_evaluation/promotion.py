"""Promotion: a model version becomes the current one of a name, because an evaluation supports it.

A rule (`promotion_rule`) says what the evaluation must show; each of its clauses is told with its figure. With `force`
a person overrules it; which clauses did not hold, and the reason, stay in the version. Promoting a version that was
current before is a rollback: what held then holds now, and what was overruled then must be overruled again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.registry.v1.registry_pb2 import RunState
from luthier_evaluation.metrics import COPY, METRICS, Pairs, is_silent
from luthier_evaluation.plan import baseline, candidate, evaluation_log
from luthier_evaluation.promotion_rule import Rule
from luthier_evaluation.statistics import paired_interval
from luthier_kit.registry import (
    OVERRULED,
    PROMOTED_FROM,
    RUN_STATE_SUCCEEDED,
    ModelVersion,
    refuse_unfit,
    register,
    resolve,
    versions,
)
from luthier_kit.rpc import FailedPrecondition, NotFound, actor
from luthier_kit.store import Store

CLIPPED_SHARE: Final = 0.001
"""Of the samples of a row, from which on it counts as clipped."""
RULE = "promotion_rule"
"""Note of a promoted version: the rule with its digest and what it made of the evaluation."""


@dataclass(frozen=True)
class Clause:
    """A clause of the rule, whether it holds, and the figure that says so."""

    name: str
    holds: bool
    figure: str

    def __str__(self) -> str:
        return f"{self.name}: {self.figure}"


@dataclass(frozen=True)
class Decision:
    """What came of a request: the version that is current (or would be), and the clauses that were looked at."""

    version: ModelVersion
    clauses: Sequence[Clause]
    promoted: bool
    unchanged: bool = False


def promote(store: Store, request: pb.PromoteModelRequest, rule: Rule) -> Decision:
    """Makes the version the current one of the name, or says what the rule makes of it (`check_only`).

    Raises NotFound for an unknown model or evaluation, FailedPrecondition PROMOTION_REFUSED with every clause that does
    not hold, and TRANSFORMER_UNFIT, which nothing overrules: no server would generate with it.
    """
    version = resolve(store, request.model)
    refuse_unfit(version)
    history = versions(store, request.name)
    current = history[-1] if history else None
    same = [old for old in reversed(history) if old.digest == version.digest]
    evaluation_id = request.evaluation_id or next((old.evaluation for old in same if old.evaluation), "")
    before = next((old for old in same if old.evaluation == evaluation_id), None)
    if not request.check_only and before and before is current:
        return Decision(current, (), promoted=True, unchanged=True)
    clauses = [*_as_before(before)] if before else [*held(store, evaluation_id, version, current, rule)]
    if request.check_only:
        return Decision(version, clauses, promoted=False)
    failed = [str(clause) for clause in clauses if not clause.holds]
    if failed and not request.force:
        text = "\n".join(
            [f"{request.model} is not promoted to {request.name} (force overrules, with a reason):", *failed]
        )
        raise FailedPrecondition(text, reason="PROMOTION_REFUSED")
    promoted = replace(
        version,
        name=request.name,
        evaluation=evaluation_id,
        notes={
            **version.notes,
            PROMOTED_FROM: version.label,
            OVERRULED: failed,
            RULE: {"name": rule.name, "sha256": rule.sha256, "clauses": [str(clause) for clause in clauses]},
        },
        created_by=actor(request.promoted_by),
        reason=request.reason,
        created_at=None,
        n=0,
    )
    return Decision(register(store, promoted, promotion=True), clauses, promoted=True)


def held(
    store: Store, evaluation_id: str, version: ModelVersion, current: ModelVersion | None, rule: Rule
) -> Iterator[Clause]:
    """Every clause of the rule, held against an evaluation. NotFound for an unknown one."""
    if not evaluation_id:
        yield Clause("evaluation", False, "none is named, and none was recorded with this digest under this name")
        return
    run = evaluation_log(store, evaluation_id).read()
    measured = candidate(run.request)
    if run.state != RUN_STATE_SUCCEEDED:
        state = RunState.Name(run.state).removeprefix("RUN_STATE_")
        yield Clause("evaluation", False, f"{evaluation_id} is {state}, not SUCCEEDED")
        return
    if measured.HasField("audio"):
        yield Clause("evaluation", False, f"{evaluation_id} measured {measured.model}, a set of audio: it is no model")
        return
    if measured.model_digest != f"sha256:{version.digest}":
        told = f"{evaluation_id} measured {measured.model} ({measured.model_digest}), not sha256:{version.digest}"
        yield Clause("evaluation", False, told)
        return
    try:
        results = store.get(pb.EvaluationResults, run.result.results)
    except NotFound:
        yield Clause("evaluation", False, f"what {evaluation_id} measured is not in the store any more: evaluate again")
        return
    yield Clause("evaluation", True, f"{evaluation_id} measured {measured.model}")
    yield from _of_results(results, current, rule)


def _of_results(results: pb.EvaluationResults, current: ModelVersion | None, rule: Rule) -> Iterator[Clause]:
    plan, metrics = results.plan, {metric.name: metric for metric in METRICS}
    model, other = candidate(plan), baseline(plan)
    failed = sum(row.HasField("error") for row in results.rows)
    yield _share("failed", failed, len(results.rows), rule, "rows failed")
    pairs = _pairs(results, model)
    for name, least in rule.rows.items():
        count = sum(metrics[name].of(row, result) is not None for row, result in pairs)
        yield Clause(f"rows of {name}", count >= least, f"{count}, at least {least}")
    rows = [result for _, result in pairs]
    yield _share("silent", sum(map(is_silent, rows)), len(rows), rule, "rows are silent")
    known = [row for row in rows if row.HasField("clipped_share")]
    clipped = _share(
        "clipped", sum(row.clipped_share >= CLIPPED_SHARE for row in known), len(known), rule, "are clipped"
    )
    yield (
        clipped
        if len(known) == len(rows)
        else Clause("clipped", False, f"measured in {len(known)} of {len(rows)} rows")
    )
    if "copies" in rule.shares:
        looked = [row for row in rows if COPY in row.values]
        copies = sum(bool(row.values[COPY]) for row in looked)
        if model.training_sets:
            yield _share("copies", copies, len(looked), rule, "rows hold a training clip")
        else:
            yield Clause("copies", True, "not looked for: no data set is recorded with the model or its bases")
    for name, most in rule.follows.items():
        measure = metrics[name].permuted
        assert measure  # the rule names only metrics of what is asked for
        p = measure(pairs)
        told = (
            "no row asks for it"
            if p is None
            else f"prompts dealt out anew score as well with p = {p:.2g}, at most {most:g}"
        )
        yield Clause(f"follows {name}", p is not None and p <= most, told)
    if current is None:
        yield Clause("baseline", True, "the name has no version yet")
    elif not other or other.model_digest != f"sha256:{current.digest}":
        with_whom = f"it was compared with {other.model}" if other else "it was compared with none"
        yield Clause(
            "baseline", False, f"{with_whom}: the current version is {current.label} (sha256:{current.digest})"
        )
    else:
        yield Clause("baseline", True, f"it was compared with the current version, {current.label}")
    if other:
        yield _quality(pairs, _pairs(results, other), rule)


def _quality(after: Pairs, before: Pairs, rule: Rule) -> Clause:
    """Better on the metric that the rule names, or not worse on all."""
    told, inferior, better, compared = [], False, False, 0
    for metric in METRICS:
        if metric.name != rule.better and metric.name not in rule.margins:
            continue
        values = [
            {result.row: value for row, result in pairs if (value := metric.of(row, result)) is not None}
            for pairs in (before, after)
        ]
        found = paired_interval(
            [values[1][row] - values[0][row] for row in sorted(values[0].keys() & values[1].keys())]
        )
        if found is None:
            continue
        compared += 1
        told.append(f"{metric.name} {found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}, {found.n} rows)")
        better |= metric.name == rule.better and found.low > 0
        margin = rule.margins.get(metric.name)
        inferior |= margin is not None and found.low < -margin
    margins = ", ".join(f"{name} {margin:g}" for name, margin in rule.margins.items())
    rule_text = (
        f"better on {rule.better}, or none worse than by {margins}" if rule.better else f"none worse than by {margins}"
    )
    return Clause(
        "beside the baseline",
        bool(compared) and (better or not inferior),
        f"{rule_text}: {'; '.join(told) or 'no row'}",
    )


def _share(name: str, count: int, rows: int, rule: Rule, what: str) -> Clause:
    most = rule.shares[name]
    return Clause(name, rows > 0 and count <= most * rows, f"{count} of {rows} {what}, at most {most:.0%}")


def _pairs(results: pb.EvaluationResults, model: pb.EvaluatedModel) -> Pairs:
    rows = results.plan.suite.rows
    return [(rows[r.row], r) for r in results.rows if r.model == model.model and not r.HasField("error")]


def _as_before(before: ModelVersion) -> list[Clause]:
    """A rollback: the decision that was made when the version became the current one of this name."""
    overruled = before.notes.get(OVERRULED, [])
    if not overruled:
        return [Clause("rollback", True, f"it was promoted as {before.label} on {before.evaluation}")]
    return [Clause("rollback", False, f"{before.label} was promoted by force, against: {line}") for line in overruled]
