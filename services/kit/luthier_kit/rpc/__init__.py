"""Calls between services: how a service is served, called, and refused. Nothing about storage or music.

Serve: `main`, `Service`, `Server`, `ServiceSettings`. Call: `Channel` under a generated stub. Refuse: the exceptions,
`Checks` for requests, `page_token` / `page_position` for lists. Around them: `setting` and `load` for settings,
`retry_policy` for trying again, logs, metrics and traces.
"""

from luthier_kit.rpc._admission import Admission
from luthier_kit.rpc._callers import CallerLimit, Callers, Tokens
from luthier_kit.rpc._channel import Channel
from luthier_kit.rpc._checks import NAME_PATTERN, Checks
from luthier_kit.rpc._contracts import (
    MAX_MIDI_BYTES,
    MAX_PROMPT_CHARS,
    METRICS_OFFSET,
    PORTS,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    WEB_PORT,
)
from luthier_kit.rpc._credentials import Credentials
from luthier_kit.rpc._errors import (
    BY_CODE,
    CALLER_IN_FLIGHT,
    UNREACHABLE,
    Aborted,
    Busy,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    LuthierError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Violation,
    error_of,
    error_of_call,
    grpc_status_of,
    is_retryable,
    status_of,
)
from luthier_kit.rpc._pages import page_position, page_token
from luthier_kit.rpc._reread import Reread
from luthier_kit.rpc._retry import RetryBudget, retry_policy
from luthier_kit.rpc._server import Server, Service, main
from luthier_kit.rpc._settings import ClientSettings, ServiceSettings, Settings, SettingsError, load, setting
from luthier_kit.rpc._telemetry import configure_logging, current_caller, new_request_id, request_id, serve_metrics
from luthier_kit.rpc._tracing import flush_traces, span, start_traces, tracing_enabled

__all__ = [
    "BY_CODE",
    "CALLER_IN_FLIGHT",
    "MAX_MIDI_BYTES",
    "MAX_PROMPT_CHARS",
    "METRICS_OFFSET",
    "NAME_PATTERN",
    "PORTS",
    "SPLITS",
    "TEST",
    "TRAIN",
    "UNREACHABLE",
    "VALIDATION",
    "WEB_PORT",
    "Aborted",
    "Admission",
    "Busy",
    "CallerLimit",
    "Callers",
    "Cancelled",
    "Channel",
    "Checks",
    "ClientSettings",
    "Credentials",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidRequest",
    "LuthierError",
    "NotFound",
    "PermissionDenied",
    "QuotaExceeded",
    "Reread",
    "RetryBudget",
    "Server",
    "Service",
    "ServiceSettings",
    "Settings",
    "SettingsError",
    "Tokens",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
    "configure_logging",
    "current_caller",
    "error_of",
    "error_of_call",
    "flush_traces",
    "grpc_status_of",
    "is_retryable",
    "load",
    "main",
    "new_request_id",
    "page_position",
    "page_token",
    "request_id",
    "retry_policy",
    "serve_metrics",
    "setting",
    "span",
    "start_traces",
    "status_of",
    "tracing_enabled",
]  # fmt: skip
