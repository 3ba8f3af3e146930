"""How far the two Jobs of a submission are, as Kubernetes tells it."""

import time
from typing import Any

from luthier_kit.cluster import Cluster
from luthier_kit.errors import FailedPrecondition, NotFound, Unavailable
from luthier_pipeline.progress import Progress

LOOK_EVERY_S = 2.0
COMPLETE, FAILED, QUEUED, RUNNING, WAITING = "COMPLETE", "FAILED", "QUEUED", "RUNNING", "WAITING"


def state_of(job: Any) -> str:
    """QUEUED = suspended (Kueue has not admitted it), WAITING = no Pod is ready yet."""
    met = {condition.type for condition in job.status.conditions or [] if condition.status == "True"}
    for condition, state in (("Complete", COMPLETE), ("Failed", FAILED)):
        if condition in met:
            return state
    if job.spec.suspend:
        return QUEUED
    return RUNNING if job.status.ready else WAITING


def follow(cluster: Cluster, ingest: str, run: str, patience_s: float) -> Any:
    """Shows the shards' progress until all are done; the run's Job. Raises FailedPrecondition when a Job failed.

    An API server that is away is waited for, up to `patience_s` without an answer.
    """
    progress, give_up = Progress("shards", 0), time.monotonic() + patience_s
    while True:
        try:
            first, shards = cluster.job(ingest), cluster.job(run)
        except Unavailable:
            if time.monotonic() > give_up:
                raise
            time.sleep(LOOK_EVERY_S)
            continue
        give_up = time.monotonic() + patience_s
        if shards is None:
            raise NotFound(f"Job {run} was deleted", reason="JOB_GONE")
        progress.total, progress.done = shards.spec.completions, shards.status.succeeded or 0
        note = f"ingest {_told(first) if first else 'over'}, shards {_told(shards)}"
        if state_of(shards) == COMPLETE:
            progress.finish(note)
            return shards
        for job in (first, shards):
            if job and state_of(job) == FAILED:
                raise FailedPrecondition(f"Job {job.metadata.name} failed: {_why(job)}", reason="JOB_FAILED")
        progress.show(note)
        time.sleep(LOOK_EVERY_S)


def _told(job: Any) -> str:
    """Failed Pods are told at once: a Job tries for half an hour before it fails."""
    failed = f" ({job.status.failed} Pods failed)" if job.status.failed else ""
    return f"{state_of(job).lower()}{failed}"


def _why(job: Any) -> str:
    told = next(condition for condition in job.status.conditions if condition.type == "Failed")
    return f"{told.reason}: {told.message}"
