"""The manifest of a training run's Job: a file with one `batch/v1` Job, which the chart renders.

Image, security, volumes, environment, node pool, queue and back-off are the file's; a run sets the name, labels,
annotations and the first container's arguments.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from luthier_kit.runs import Run
from luthier_kit.settings import SettingsError
from luthier_training.launchers.launcher import arguments

RUN_LABEL = "luthier/run"
REQUEST_ANNOTATION, MODEL_ANNOTATION = "luthier/request-id", "luthier/model"
GPU = "nvidia.com/gpu"
DIGITS = 16
"""Hexadecimal digits of the run's id in a Job's name."""
MAX_NAME_CHARS = 63 - DIGITS - 1
"""A Job's name becomes a label of its Pods."""
SETTING = "LUTHIER_JOB_TEMPLATE"


@dataclass(frozen=True)
class JobTemplate:
    """A checked manifest; `name` is what Jobs' names begin with, `gpus` what the first container asks for."""

    document: dict[str, Any]
    name: str
    gpus: int

    def name_of(self, run_id: str) -> str:
        """The one name of a run's Job, so that launching twice is launching once."""
        return f"{self.name}-{run_id.rpartition('-')[2][:DIGITS]}"

    def job(self, run: Run, processes: int) -> dict[str, Any]:
        """The Job of a run, with one process for each GPU; `processes` counts where there are none."""
        job = copy.deepcopy(self.document)
        pod = job["spec"]["template"]
        job["metadata"]["name"] = self.name_of(run.id)
        for metadata in (job["metadata"], pod.setdefault("metadata", {})):
            metadata["labels"] = {**(metadata.get("labels") or {}), RUN_LABEL: run.id}
        told = {REQUEST_ANNOTATION: run.request.get("request_id"), MODEL_ANNOTATION: run.request.get("model_name")}
        annotations = job["metadata"].get("annotations") or {}
        job["metadata"]["annotations"] = {**annotations, **{name: str(value) for name, value in told.items() if value}}
        container = pod["spec"]["containers"][0]
        container.setdefault("command", ["python"])
        container["args"] = arguments(run.id, self.gpus or processes)
        return job


def read_template(place: str) -> JobTemplate:
    """The template in the file `place`; SettingsError names what is wrong with it."""
    if not place:
        raise SettingsError(f"{SETTING} is missing: the file with the Job of a training run")
    path = Path(place)
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise SettingsError(f"{SETTING} {path} cannot be read: {e}") from None
    kind = (document.get("apiVersion"), document.get("kind")) if isinstance(document, dict) else None
    if kind != ("batch/v1", "Job"):
        raise SettingsError(f"{SETTING} {path} must be one batch/v1 Job")
    name = _at(document, path, "metadata.name", str)
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) or len(name) > MAX_NAME_CHARS:
        raise SettingsError(
            f"{SETTING} {path}: metadata.name must be a DNS label of at most {MAX_NAME_CHARS}: {name!r}"
        )
    containers = _at(document, path, "spec.template.spec.containers", list)
    if not containers or not isinstance(containers[0], dict):
        raise SettingsError(f"{SETTING} {path}: spec.template.spec.containers has no container")
    return JobTemplate(document, name, _gpus(containers[0], path))


def _at(document: dict[str, Any], path: Path, place: str, kind: type) -> Any:
    found: Any = document
    for part in place.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, kind):
        raise SettingsError(f"{SETTING} {path}: {place} is missing or of a wrong type")
    return found


def _gpus(container: dict[str, Any], path: Path) -> int:
    asked = ((container.get("resources") or {}).get("limits") or {}).get(GPU, 0)
    if not re.fullmatch(r"\d{1,2}", str(asked)):
        raise SettingsError(f"{SETTING} {path}: the limit of {GPU} must be a whole number from 0 to 99, got {asked!r}")
    return int(asked)
