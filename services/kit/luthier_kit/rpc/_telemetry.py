"""JSON logs with the request id, and Prometheus metrics by the semantic conventions' names.

The request id travels in the metadata `x-request-id`: a server takes it from the call, or makes one; the client
sends it with its own calls. Lines that a call writes carry it, and the caller's name where callers must give one.
"""

import contextvars
import json
import logging
import sys
import traceback
import uuid
from datetime import UTC, datetime

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from luthier_kit.rpc._settings import SettingsError

REQUEST_ID_KEY = "x-request-id"
request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
current_caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="")  # "" = unknown

SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)
CALL_SECONDS = Histogram(
    "rpc_server_duration_seconds",
    "Duration of calls that a server answered",
    ("rpc_service", "rpc_method", "rpc_grpc_status_code"),
    buckets=SECONDS,
)
IN_FLIGHT = Gauge("luthier_work_in_flight", "Calls of work that hold a slot", ("service",))
WAITING = Gauge("luthier_work_waiting", "Calls of work that wait for a slot", ("service",))
SLOTS = Gauge("luthier_work_slots", "Calls of work that may run at once", ("service",))
REFUSED = Counter("luthier_work_refused", "Calls refused because the queue was full", ("service",))
OPENING = Gauge("luthier_calls_opening", "Calls whose message has not arrived yet", ("service",))
OPENING_REFUSED = Counter(
    "luthier_calls_opening_refused", "Calls refused or ended because their message did not arrive", ("service", "why")
)
REFUSED_BY_CALLER_LIMIT = Counter(
    "luthier_calls_refused_by_caller_limit", "Calls refused because their caller had too many in flight", ("service",)
)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request id, caller, further fields, trace."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := request_id.get():
            line["request_id"] = identity
        if name := current_caller.get():
            line["caller"] = name
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _FramesOnly(logging.Filter):
    """Leaves of an exception its types and frames: its message may quote what must not be written down."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and (error := record.exc_info[1]) is not None:
            lines = [f"{type(error).__name__} (its message is left out)\n", *traceback.format_tb(error.__traceback__)]
            record.fields = {**getattr(record, "fields", {}), "trace": "".join(lines)}
            record.exc_info = record.exc_text = None
        return True


def log_no_exception_texts() -> None:
    """From now on the logs of this process have no messages of exceptions in traces, only where they came from."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, _FramesOnly) for known in handler.filters):
            handler.addFilter(_FramesOnly())


def configure_logging(level: str) -> None:
    """Sends all logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def new_request_id() -> str:
    """A fresh request id."""
    return uuid.uuid4().hex


def serve_metrics(address: str) -> int:
    """Serves `/metrics` on host:port and returns the port; port 0 takes any free one. Raises SettingsError."""
    host, _, port = address.rpartition(":")
    try:
        server, _ = start_http_server(int(port), addr=host.strip("[]") or "127.0.0.1")
    except (OSError, ValueError, OverflowError) as error:
        raise SettingsError(f"LUTHIER_METRICS_ADDRESS {address} cannot be bound: {error}") from None
    return int(server.server_port)
