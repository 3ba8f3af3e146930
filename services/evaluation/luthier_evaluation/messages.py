"""A run as the contract's Evaluation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2
from luthier_evaluation import plan as plans
from luthier_evaluation.plan import Plan
from luthier_kit import statuses
from luthier_kit.errors import Internal
from luthier_kit.runs import Run


def asked(request: evaluation_pb2.CreateEvaluationRequest) -> dict[str, Any]:
    """The request as JSON, to be kept with its run."""
    return MessageToDict(request, preserving_proto_field_name=True)


def evaluation(run: Run, *, with_suite: bool = True) -> evaluation_pb2.Evaluation:
    """The Evaluation that a run is. `with_suite` repeats a suite of the caller's own, row by row."""
    plan = plans.from_document(run.request["plan"])
    message = evaluation_pb2.Evaluation(
        evaluation_id=run.id,
        state=evaluation_pb2.EvaluationState.Value(f"EVALUATION_STATE_{run.state}"),
        done=run.progress.get("done", 0),
        total=plan.total,
        failed_rows=run.progress.get("failed_rows", 0),
        suite_sha256=plan.suite.sha256,
        candidate=plan.candidate.label,
        candidate_digest=plan.candidate.digest,
        baseline=plan.baseline.label if plan.baseline else "",
        baseline_digest=plan.baseline.digest if plan.baseline else "",
        request=_request(run, plan, with_suite),
        created_at=_timestamp(run.created_at),
        updated_at=_timestamp(run.updated_at),
        sequence=run.seq,
    )
    if run.progress.get("eta_s") is not None and not run.ended:
        message.eta_s = run.progress["eta_s"]
    if run.error:
        error = Internal(run.error["message"], reason=run.error["reason"])
        message.error.CopyFrom(statuses.to_proto(error, "evaluation"))
        message.error.code = run.progress.get("error_code", message.error.code)
    if run.result:
        message.scores.extend(_score(score) for score in run.result["scores"])
        for name in ("report", "results"):
            getattr(message, name).CopyFrom(ParseDict(run.result[name], ArtifactRef()))
    return message


def _request(run: Run, plan: Plan, with_suite: bool) -> evaluation_pb2.CreateEvaluationRequest:
    request = ParseDict(run.request["asked"], evaluation_pb2.CreateEvaluationRequest(), ignore_unknown_fields=True)
    request.steps, request.guidance_scale = plan.steps, plan.guidance_scale
    if not with_suite:
        request.ClearField("suite")
    return request


def _score(score: Mapping[str, Any]) -> evaluation_pb2.Score:
    fields = evaluation_pb2.Score.DESCRIPTOR.fields_by_name
    return evaluation_pb2.Score(**{key: value for key, value in score.items() if value is not None and key in fields})


def _timestamp(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromisoformat(text))
    return stamp
