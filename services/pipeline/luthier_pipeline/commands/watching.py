"""Follows a long run until it ends, through restarts of its service."""

import importlib
import time
from collections.abc import Callable
from typing import Any

from luthier_kit.client import Client
from luthier_kit.errors import DeadlineExceeded, Unavailable
from luthier_pipeline.commands.context import PATIENCE_S
from luthier_pipeline.progress import Progress, clock

ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
PACKAGES = {"Training": "training", "Evaluation": "evaluation"}


def watch(
    client: Client, kind: str, field: str, resource: Any, shown: Callable[[Any], tuple[str, int, int, str]]
) -> Any:
    """Streams `Watch…` and shows (stage, done, total, note) of each event; returns the resource as it ended.

    A service that dies is waited for, up to PATIENCE_S without any answer.
    """
    package = PACKAGES[kind]
    messages = importlib.import_module(f"luthier.{package}.v1.{package}_pb2")
    method = "WatchTrainingRun" if kind == "Training" else "WatchEvaluation"
    view, give_up = _View(shown), time.monotonic() + PATIENCE_S
    while not state_of(resource).endswith(ENDED):
        request = getattr(messages, f"{method}Request")(**{f"{field}_id": getattr(resource, f"{field}_id")})
        try:
            for answer in client.stream(method, request, timeout_s=86400, patience_s=PATIENCE_S):
                resource = getattr(answer, field)
                give_up = time.monotonic() + PATIENCE_S
                view.show(resource)
        except (Unavailable, DeadlineExceeded):
            if time.monotonic() > give_up:
                raise
            time.sleep(0.5)
    view.close()
    return resource


def state_of(resource: Any) -> str:
    """Name of a run's state, e.g. `RUN_STATE_RUNNING`."""
    return str(resource.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[resource.state].name)


class _View:
    """One progress line for each stage."""

    def __init__(self, shown: Callable[[Any], tuple[str, int, int, str]]) -> None:
        self.shown = shown
        self.stage = ""
        self.progress: Progress | None = None

    def show(self, resource: Any) -> None:
        stage, done, total, note = self.shown(resource)
        if stage != self.stage:
            self.close()
            self.stage, self.progress = stage, Progress(stage, total)
        if self.progress:
            self.progress.total, self.progress.done = total, done
            if resource.HasField("eta_s"):
                note += f", {clock(resource.eta_s)} to go"
            self.progress.show(note)

    def close(self) -> None:
        if self.progress:
            self.progress.finish()
        self.progress = None
