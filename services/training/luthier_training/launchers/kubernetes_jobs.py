"""Runners as Kubernetes Jobs, one for each run, in the namespace that the service runs in.

The Job's manifest is a file with one `batch/v1` Job, which the chart renders. Image, security, volumes, environment,
node pool, queue and back-off are the file's; a run sets the name, labels, annotations and the first container's
arguments.

Kubernetes makes a Job's Pods anew when a node dies, a Pod is evicted or Kueue preempts; the Job's back-off limit says
how often. So a Job that exists and has not finished is work that goes on, whichever of its Pods is alive; and what is
known of it is in the cluster, so a restarted service loses nothing. The cluster queues, so there are no slots to count.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest
from luthier_kit.kubernetes import JobManifest, connect
from luthier_kit.rpc import LuthierError, SettingsError, Unavailable
from luthier_training.launchers.launcher import Work, WorkState, runner_arguments
from luthier_training.runs import TrainingRun
from luthier_training.settings import TrainingSettings

log = logging.getLogger(__name__)
RUN_LABEL, QUEUE_LABEL = "luthier/run", "kueue.x-k8s.io/queue-name"
REQUEST_ANNOTATION, MODEL_ANNOTATION = "luthier/request-id", "luthier/model"
GPU = "nvidia.com/gpu"
DIGITS = 16
"""Hexadecimal digits of the run's id in a Job's name."""
MAX_NAME_CHARS = 63 - DIGITS - 1
"""A Job's name becomes a label of its Pods."""
MAX_DESCRIPTION_CHARS = 500
SETTING = "LUTHIER_JOB_TEMPLATE"
PROBE_ID = "training-" + "0" * 32
"""A run that nobody created: at the start the API server is asked whether it would take its Job."""


@dataclass(frozen=True)
class JobTemplate:
    """A checked manifest; its name is what Jobs' names begin with, `gpus` what the first container asks for."""

    manifest: JobManifest
    gpus: int

    @classmethod
    def read(cls, path: Path) -> "JobTemplate":
        """The template in a file; SettingsError names what is wrong with it."""
        at = f"{SETTING} {path}"
        try:
            document = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{at} cannot be read: {error}") from None
        try:
            manifest = JobManifest.checked(document)
        except ValueError as error:
            raise SettingsError(f"{at}: {error}") from None
        name, gpus = manifest.name, manifest.limit(GPU) or 0
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) or len(name) > MAX_NAME_CHARS:
            raise SettingsError(f"{at}: metadata.name must be a DNS label of at most {MAX_NAME_CHARS}: {name!r}")
        if not re.fullmatch(r"\d{1,2}", str(gpus)):
            raise SettingsError(f"{at}: the limit of {GPU} must be a whole number from 0 to 99, got {gpus!r}")
        return cls(manifest, int(str(gpus)))

    def job_name(self, run_id: str) -> str:
        """The one name of a run's Job, so that launching twice is launching once."""
        return f"{self.manifest.name}-{run_id.rpartition('-')[2][:DIGITS]}"

    def job(self, run_id: str, request: CreateTrainingRunRequest, processes: int) -> JobManifest:
        """The Job of a run, with one process for each GPU; `processes` counts where there are none."""
        known = {REQUEST_ANNOTATION: request.request_id, MODEL_ANNOTATION: request.model_name}
        return self.manifest.for_work(
            self.job_name(run_id),
            {RUN_LABEL: run_id},
            runner_arguments(run_id, self.gpus or processes),
            annotations={name: value for name, value in known.items() if value},
            command=["python"],
        )


class KubernetesLauncher:
    """Creates, lists and deletes Jobs. Raises SettingsError when the template or the permissions cannot work."""

    slots: int | None = None
    max_attempts: int | None = None
    poll_interval_s = 3.0

    def __init__(self, settings: TrainingSettings) -> None:
        self._template = JobTemplate.read(Path(settings.job_template))
        self._processes = settings.processes
        self._api, self._owner = connect(settings.namespace), settings.job_owner
        self._jobs: Mapping[str, Any] = {}
        # ask the API server whether it would do what is needed, without doing it; one that is away is asked later
        checks: list[Callable[[], object]] = [
            lambda: self._api.jobs(RUN_LABEL),
            lambda: self._create(PROBE_ID, CreateTrainingRunRequest(), dry=True),
            lambda: self._api.delete(self._template.job_name(PROBE_ID), dry=True),
        ]
        for check in checks:
            try:
                check()
            except Unavailable as error:
                log.warning("not known yet whether Jobs can be made: %s", error)
            except LuthierError as error:
                raise SettingsError(f"LUTHIER_TRAINING_LAUNCHER=kubernetes cannot work: {error}") from None

    def list_work(self) -> dict[str, Work]:
        own = f"{self._template.manifest.name}-"
        found = self._api.jobs(RUN_LABEL)
        self._jobs = {job.metadata.labels[RUN_LABEL]: job for job in found if job.metadata.name.startswith(own)}
        return {run_id: Work(_state(job)) for run_id, job in self._jobs.items()}

    def describe(self, run_id: str) -> str:
        job = self._jobs[run_id]
        if job.metadata.deletion_timestamp:
            return "its Job is being deleted"
        if job.spec.suspend:
            return "queued in Kueue" if QUEUE_LABEL in job.metadata.labels else "its Job is suspended"
        try:
            pods = describe_pods(self._api.pods(f"{RUN_LABEL}={run_id}"))
        except LuthierError as error:
            pods = f"its Pods cannot be listed: {error}"
        if _state(job) == WorkState.WAITING:
            return pods
        ends = _final_conditions(job)
        reason = ends["Failed"].reason if "Failed" in ends else "complete, but not the run"
        return f"its Job ended ({reason}); {pods}"

    def launch(self, run: TrainingRun) -> None:
        self._create(run.id, run.request, dry=False)

    def stop(self, run_id: str) -> None:
        if run_id not in self._jobs or not self._jobs[run_id].metadata.deletion_timestamp:
            name = self._template.job_name(run_id)
            self._api.delete(name)
            log.info("Job deleted", extra={"fields": {"run": run_id, "job": name}})

    def close(self) -> None:
        """Jobs go on without the service."""

    def _create(self, run_id: str, request: CreateTrainingRunRequest, *, dry: bool) -> None:
        job = self._template.job(run_id, request, self._processes)
        if self._owner:
            owner = self._api.config_map(self._owner)
            if owner is None:
                # uninstalling: the run waits in the store for the release to come back
                raise Unavailable(f"there is no ConfigMap {self._owner} to own the run's Job", reason="JOB_OWNER_GONE")
            job = job.owned_by(owner)
        self._api.create(job, dry=dry)


def _state(job: Any) -> WorkState:
    if job.metadata.deletion_timestamp:
        return WorkState.WAITING
    if _final_conditions(job):
        return WorkState.FINISHED
    return WorkState.RUNNING if job.status.ready and not job.spec.suspend else WorkState.WAITING


def _final_conditions(job: Any) -> dict[str, Any]:
    """Conditions that end a Job, those that hold."""
    return {c.type: c for c in job.status.conditions or () if c.status == "True" and c.type in ("Complete", "Failed")}


def describe_pods(pods: Sequence[Any]) -> str:
    """The newest Pod of a Job in a sentence: why it does not start, or how it ended."""
    if not pods:
        return "waiting for a Pod"
    pod = max(pods, key=lambda pod: pod.metadata.creation_timestamp)
    statuses = pod.status.container_statuses or ()

    def reason(source: Any) -> str:
        return ": ".join(part.strip() for part in (source.reason, source.message) if part)

    if pod.status.phase == "Pending":
        for condition in pod.status.conditions or ():
            if condition.type == "PodScheduled" and condition.status == "False":
                why = condition.message or condition.reason
                return f"its Pod cannot be scheduled: {why}"[:MAX_DESCRIPTION_CHARS]
        waiting = [reason(status.state.waiting) for status in statuses if status.state.waiting]
        return f"its Pod starts: {waiting[0]}"[:MAX_DESCRIPTION_CHARS] if waiting else "its Pod starts"
    parts = [reason(pod.status)] if pod.status.reason else []  # Evicted, NodeLost, …
    if statuses and (end := statuses[0].state.terminated):
        parts.append(f"exit code {end.exit_code}: {reason(end)}")
    if not parts:
        return "its Pod starts"
    return f"its last Pod {pod.metadata.name} ended: {'; '.join(parts)}"[:MAX_DESCRIPTION_CHARS]
