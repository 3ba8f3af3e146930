"""KEDA: render workers are started for waiting work and stopped afterwards, and no song is lost."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import work
from tests.cluster.kube import KubeError, wait_until
from tests.cluster.monitoring import Prometheus
from tests.cluster.release import Release

WAITING = 'luthier_pipeline_work_waiting{stage="rendering"}'
SONGS = 12


@pytest.fixture(scope="module")
def scaled(installed: Release, crds: set[str]) -> Iterator[Release]:
    """The release with render workers scaled by KEDA from zero."""
    if "scaledobjects.keda.sh" not in crds:
        pytest.skip("the cluster has no KEDA")
    with_keda(installed, most=2)
    yield installed
    installed.helm("upgrade")


def with_keda(release: Release, most: int, **more: Any) -> None:
    """Upgrades to KEDA with a lowest count of zero and `most` workers; `more` are further values of rendering."""
    quick = {"pollingSeconds": 5, "cooldownSeconds": 20, "scaleDownSeconds": 15}
    scaling = {"enabled": True, "minReplicas": 0, "maxReplicas": most, **quick}
    release.helm("upgrade", values={"services": {"rendering": {"autoscaling": scaling, **more}}})


class Recorder(threading.Thread):
    """Every two seconds: seconds since the start, work waiting, ready workers, Pods of workers."""

    def __init__(self, release: Release, prometheus: Prometheus) -> None:
        super().__init__(daemon=True)
        self.release, self.prometheus, self.done = release, prometheus, threading.Event()
        self.rows: list[tuple[int, float | None, int, int]] = []

    def run(self) -> None:
        begun = time.monotonic()
        while not self.done.wait(2):
            try:
                pods = self.release.kube.pods(self.release.selector("rendering"))
                ready = self.release.kube.pods(self.release.selector("rendering"), ready=True)
                row = (round(time.monotonic() - begun), self.prometheus.value(WAITING), len(ready), len(pods))
            except (KubeError, KeyError, ValueError):
                continue
            if not self.rows or row[1:] != self.rows[-1][1:]:
                self.rows.append(row)


def workers(release: Release) -> int:
    return len(release.kube.pods(release.selector("rendering")))


def test_no_work_means_no_worker(scaled: Release, prometheus: Prometheus) -> None:
    wait_until("zero render workers", lambda: workers(scaled) == 0, 180)
    assert prometheus.value(WAITING) == 0


def test_workers_are_started_for_work_and_stopped_afterwards(
    scaled: Release, prometheus: Prometheus, figures: dict[str, Any]
) -> None:
    claim = work.corpus_claim(scaled, "scaled", semitones=2)
    recorder = Recorder(scaled, prometheus)
    recorder.start()
    begun = time.monotonic()
    submitted = work.submit(scaled, "--collection", "scaled", "--claim", claim, "--shards", "2")
    wait_until("a first worker is ready", lambda: scaled.kube.pods(scaled.selector("rendering"), ready=True), 240)
    figures["seconds from submit at zero workers to the first ready one"] = round(time.monotonic() - begun)
    wait_until("two workers", lambda: workers(scaled) == 2, 240)
    scaled.kube.wait_job(submitted["run"], 700)
    wait_until("zero render workers again", lambda: workers(scaled) == 0, 240)
    recorder.done.set()
    figures["0 -> N -> 0 (seconds, songs waiting, ready workers, Pods)"] = recorder.rows
    run = work.run_of(scaled, "scaled")
    assert (run["songs"], run["rendered"], run["failures"]) == (SONGS, SONGS, [])
    assert max(row[3] for row in recorder.rows) == 2


def test_an_absent_series_is_not_read_as_zero(scaled: Release, prometheus: Prometheus) -> None:
    claim = work.corpus_claim(scaled, "absent", semitones=3)
    submitted = work.submit(scaled, "--collection", "absent", "--claim", claim, "--shards", "1")
    wait_until("a worker", lambda: workers(scaled) >= 1, 240)
    scaled.kube("scale", f"deploy/{scaled.name}-monitor", "--replicas=0")
    try:
        wait_until("the series is gone", lambda: prometheus.value(WAITING) is None, 60)
        held_until = time.monotonic() + 60
        while time.monotonic() < held_until:
            assert workers(scaled) >= 1
            time.sleep(3)
    finally:
        scaled.kube("scale", f"deploy/{scaled.name}-monitor", "--replicas=1")
    scaled.kube.wait_job(submitted["run"], 600)


def test_a_second_worker_saves_time(scaled: Release, figures: dict[str, Any]) -> None:
    """With a third of a core for each worker, rendering is the slowest stage even on a small machine."""
    slow = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "300m", "memory": "3Gi"}}
    took = {}
    for most in (1, 2):
        with_keda(scaled, most, resources=slow)
        claim = work.corpus_claim(scaled, f"gained-{most}", semitones=5 + most)
        wait_until("zero render workers", lambda: workers(scaled) == 0, 240)
        begun = time.monotonic()
        submitted = work.submit(scaled, "--collection", f"gained-{most}", "--claim", claim, "--shards", "2")
        scaled.kube.wait_job(submitted["run"], 700)
        took[most] = round(time.monotonic() - begun)
    figures["seconds for 12 songs with at most one and two render workers of 0.3 cores"] = took
    assert took[2] < took[1]
