"""Runs of the series as messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1 import training_pb2 as pb
from luthier_kit.runs import Run

DOMAIN = "training"


def to_document(request: pb.CreateTrainingRunRequest) -> dict[str, Any]:
    """The request as the run's series keeps it."""
    return MessageToDict(request, preserving_proto_field_name=True)


def to_message(run: Run) -> pb.TrainingRun:
    """A run as others see it."""
    told = run.progress
    message = pb.TrainingRun(
        run_id=run.id,
        state=pb.RunState.Value(f"RUN_STATE_{run.state}"),
        stage=str(told.get("stage", "")),
        done=int(told.get("done", 0)),
        total=int(told.get("total", 0)),
        validation=_points(told.get("validation", ())),
        training=_points(told.get("training", ())),
        model=str(run.result.get("model", "")),
        model_digest=str(run.result.get("model_digest", "")),
        request=ParseDict(dict(run.request), pb.CreateTrainingRunRequest(), ignore_unknown_fields=True),
        created_at=_time(run.created_at),
        updated_at=_time(run.updated_at),
        sequence=run.seq,
        attempts=run.attempts,
    )
    for name in ("eta_s", "loss"):
        if told.get(name) is not None:
            setattr(message, name, float(told[name]))
    if told.get("checkpoint"):
        message.checkpoint.CopyFrom(ParseDict(told["checkpoint"], ArtifactRef(), ignore_unknown_fields=True))
    if run.error:
        message.error.CopyFrom(_status(run))
    return message


def _points(pairs: Iterable[Sequence[float]]) -> list[pb.LossPoint]:
    return [pb.LossPoint(step=int(step), loss=float(loss)) for step, loss in pairs]


def _time(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


def _status(run: Run) -> Status:
    error = run.error or {}
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=error.get("reason", ""), domain=DOMAIN))
    code = int(run.progress.get("error_code", StatusCode.INTERNAL.value[0]))
    return Status(code=code, message=error.get("message", ""), details=[detail])
