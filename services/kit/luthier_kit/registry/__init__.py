"""What is registered in the store: model versions, runs and the heartbeats of their runners."""

from luthier.registry.v1.registry_pb2 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    RunState,
)
from luthier_kit.registry._heartbeat import EXPIRY_S, Heartbeat
from luthier_kit.registry._models import (
    MAX_ADAPTERS,
    PROMOTED_FROM,
    TRANSFORMER,
    UNFIT,
    ModelVersion,
    current_version,
    model_names,
    refuse_promoted,
    refuse_unfit,
    register,
    resolve,
    versions,
)
from luthier_kit.registry._requests import REQUESTS, claim_request
from luthier_kit.registry._runs import (
    MAX_REQUEST_ID_CHARS,
    Run,
    RunKind,
    RunLog,
    RunPages,
    list_runs,
    run_id_of,
    timestamp,
)

__all__ = [
    "EXPIRY_S",
    "MAX_ADAPTERS",
    "MAX_REQUEST_ID_CHARS",
    "PROMOTED_FROM",
    "REQUESTS",
    "RUN_STATE_CANCELLED",
    "RUN_STATE_FAILED",
    "RUN_STATE_QUEUED",
    "RUN_STATE_RUNNING",
    "RUN_STATE_SUCCEEDED",
    "TRANSFORMER",
    "UNFIT",
    "Heartbeat",
    "ModelVersion",
    "Run",
    "RunKind",
    "RunLog",
    "RunPages",
    "RunState",
    "claim_request",
    "current_version",
    "list_runs",
    "model_names",
    "refuse_promoted",
    "refuse_unfit",
    "register",
    "resolve",
    "run_id_of",
    "timestamp",
    "versions",
]  # fmt: skip
