"""evaluate and promote."""

from pathlib import Path

from luthier.evaluation.v1 import evaluation_pb2 as evaluation
from luthier_kit.errors import Cancelled
from luthier_kit.statuses import from_proto
from luthier_pipeline.commands.context import PATIENCE_S, Context
from luthier_pipeline.commands.identity import begin
from luthier_pipeline.commands.watching import watch
from luthier_pipeline.resources import plain, save, table


def evaluate(context: Context) -> None:
    """Measures a model, beside a baseline when one is named; the same arguments are the same evaluation."""
    arguments = context.arguments
    request = evaluation.CreateEvaluationRequest(
        candidate_model=arguments.model,
        baseline_model=arguments.baseline,
        suite_name=arguments.suite,
        created_by=arguments.reviewer,
    )
    for field in ("steps", "max_rows", "guidance_scale"):
        if (value := getattr(arguments, field)) is not None:
            setattr(request, field, value)
    if arguments.seconds is not None:
        request.seconds_total = arguments.seconds
    request.request_id = arguments.request_id
    client, store = context.place["evaluation"], context.place.store
    created = begin(
        request,
        store,
        [arguments.model, arguments.baseline],
        lambda asked: client.call("CreateEvaluation", asked, patience_s=PATIENCE_S).evaluation,
    )
    ended = watch(client, "Evaluation", "evaluation", created, lambda e: ("evaluated rows", e.done, e.total, ""))
    if ended.state != evaluation.EVALUATION_STATE_SUCCEEDED:
        raise from_proto(ended.error) if ended.HasField("error") else Cancelled("the evaluation was cancelled")
    if arguments.report:
        save(context.place.store, ended.report, Path(arguments.report))
    context.answer({"evaluation": ended.evaluation_id, **plain(ended)}, _told(ended))


def promote(context: Context) -> None:
    """Makes a model version the current one of a name; an older version is a rollback."""
    arguments = context.arguments
    request = evaluation.PromoteModelRequest(
        name=arguments.name,
        model=arguments.model,
        evaluation_id=arguments.evaluation,
        promoted_by=arguments.reviewer,
        reason=arguments.reason,
        force=arguments.force,
    )
    answer = context.place["evaluation"].call("PromoteModel", request, patience_s=PATIENCE_S)
    same = " (it already was)" if answer.unchanged else ""
    context.answer(plain(answer), f"{arguments.name} is now {answer.model} {answer.model_digest}{same}")


def _told(ended: evaluation.Evaluation) -> str:
    rows = [
        [
            score.metric,
            score.model,
            f"{score.value:.3f}" if score.HasField("value") else "not computed",
            f"[{score.low:.3f}, {score.high:.3f}]" if score.HasField("low") else "",
            str(score.n),
            f"{score.chance:.3f}" if score.HasField("chance") else "",
            score.note,
        ]
        for score in ended.scores
    ]
    return table(rows, ["metric", "model", "value", "95 %", "n", "chance", "note"])
