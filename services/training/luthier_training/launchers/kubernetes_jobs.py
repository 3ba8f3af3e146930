"""Runners as Kubernetes Jobs, one for each run, in the namespace that the service runs in.

Kubernetes makes a Job's Pods anew when a node dies, a Pod is evicted or Kueue preempts; the Job's back-off limit says
how often. So a Job that exists and has not finished is work that goes on, whoever of its Pods lives; and what is known
of it is in the cluster, so a restarted service loses nothing. The cluster queues, so there are no places to count.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from luthier_kit.cluster import connect, owned_by
from luthier_kit.errors import LuthierError, Unavailable
from luthier_kit.runs import Run
from luthier_kit.settings import SettingsError
from luthier_training.launchers import pods
from luthier_training.launchers.job_template import RUN_LABEL, read_template
from luthier_training.launchers.launcher import GAVE_UP, WAITING, WORKING, Work
from luthier_training.settings import TrainingSettings

log = logging.getLogger(__name__)
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
NOBODY = Run(id="training-" + "0" * 32, kind="training", request={})


class KubernetesLauncher:
    """Creates, lists and deletes Jobs. Raises SettingsError when the template or the permissions do not do."""

    places: int | None = None
    attempts: int | None = None
    every_s = 3.0

    def __init__(self, settings: TrainingSettings) -> None:
        self._template, self._processes = read_template(settings.job_template), settings.processes
        self._api, self._owner = connect(settings.namespace), settings.job_owner
        self._jobs: Mapping[str, Any] = {}
        self._prove()

    def look(self) -> dict[str, Work]:
        own = f"{self._template.name}-"
        found = self._api.jobs(RUN_LABEL)
        self._jobs = {job.metadata.labels[RUN_LABEL]: job for job in found if job.metadata.name.startswith(own)}
        return {run_id: Work(_state(job)) for run_id, job in self._jobs.items()}

    def why(self, run_id: str) -> str:
        job = self._jobs[run_id]
        if job.metadata.deletion_timestamp:
            return "its Job is being deleted"
        if job.spec.suspend:
            return "queued in Kueue" if QUEUE_LABEL in job.metadata.labels else "its Job is suspended"
        story = self._story(run_id)
        if _state(job) == WAITING:
            return story
        ends = _ends(job)
        reason = ends["Failed"].reason if "Failed" in ends else "complete, but not the run"
        return f"its Job ended ({reason}); {story}"

    def launch(self, run: Run) -> None:
        self._create(run)

    def stop(self, run_id: str) -> None:
        if run_id not in self._jobs or not self._jobs[run_id].metadata.deletion_timestamp:
            self._api.delete(self._template.name_of(run_id))
            log.info("Job deleted", extra={"fields": {"run": run_id, "job": self._template.name_of(run_id)}})

    def close(self) -> None:
        """Jobs go on without the service."""

    def _story(self, run_id: str) -> str:
        try:
            return pods.story(self._api.pods(f"{RUN_LABEL}={run_id}"))
        except LuthierError as e:
            return f"its Pods cannot be listed: {e}"

    def _create(self, run: Run, *, dry: bool = False) -> None:
        job = self._template.job(run, self._processes)
        if self._owner:
            owner = self._api.config_map(self._owner)
            if owner is None:
                # uninstalling: the run waits in the store for the release to come back
                raise Unavailable(f"there is no ConfigMap {self._owner} to own the run's Job", reason="JOB_OWNER_GONE")
            job = owned_by(job, owner)
        self._api.create(job, dry=dry)

    def _prove(self) -> None:
        """Asks the API server whether it would do what is needed, and does nothing; an absent one is asked later."""
        name = self._template.name_of(NOBODY.id)
        steps: list[Any] = [
            lambda: self._api.jobs(RUN_LABEL),
            lambda: self._create(NOBODY, dry=True),
            lambda: self._api.delete(name, dry=True),
        ]
        for step in steps:
            try:
                step()
            except Unavailable as e:
                log.warning("not proven yet that Jobs can be made: %s", e)
            except LuthierError as e:
                raise SettingsError(f"LUTHIER_TRAINING_LAUNCHER=kubernetes cannot work: {e}") from None


def _state(job: Any) -> str:
    if job.metadata.deletion_timestamp:
        return WAITING
    if _ends(job):
        return GAVE_UP
    return WORKING if job.status.ready and not job.spec.suspend else WAITING


def _ends(job: Any) -> dict[str, Any]:
    """Conditions that end a Job, those that hold."""
    return {c.type: c for c in job.status.conditions or () if c.status == "True" and c.type in ("Complete", "Failed")}
