"""Rolling upgrades under load: no call fails, and connections move to the new Pods.

`PREVIOUS_CHART` (its folder), `PREVIOUS_TAG` (of its images) and `PREVIOUS_LUTHIER` (its command) name an earlier
release, which is then installed in a namespace of its own, filled and upgraded to this one. It takes a GPU for each of
inference, its new Pod and a training. The images are wherever their Pods may run, those of training on both pools.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import work
from tests.cluster.conftest import overlay
from tests.cluster.kube import Kube, name_of, wait_until
from tests.cluster.monitoring import Prometheus
from tests.cluster.release import CHART, Release, gone, namespace, scripts
from tests.cluster.settings import SERVICES, Settings
from tests.system import LUTHIER

GENERATE_RATE = 1.0  # calls per second, a quarter of which leave
RENDER_RATE = 2.0


def roll(release: Release, service: str) -> set[str]:
    """Upgrades one service; answers with the names of its new Pods."""
    before = {name_of(pod) for pod in release.kube.pods(release.selector(service))}
    release.helm("upgrade", values={"services": {service: {"podAnnotations": {"luthier.io/test": str(time.time())}}}})
    release.kube("rollout", "status", f"deploy/{release.name}-{service}", "--timeout=300s", timeout_s=310)
    after = {name_of(pod) for pod in release.kube.pods(release.selector(service))}
    assert after
    assert not after & before
    return after


def answered(release: Release, pod: str, method: str) -> int:
    """Calls that a Pod's log says it answered."""
    return sum(
        f'"method": "{method}"' in line and '"code": "OK"' in line for line in release.kube.logs(pod).splitlines()
    )


def upgrade_under(load: work.Load, release: Release, service: str, method: str, figures: dict[str, Any]) -> None:
    """Rolls a service until its new Pods answer the load; no call of it may fail."""
    pods = roll(release, service)
    wait_until("the new Pods answer", lambda: all(answered(release, pod, method) for pod in pods), 120)
    count = load.stop()
    counts = (count["calls"], count["failed"], count["slowest_s"])
    figures[f"{method} during a rolling upgrade (calls, failed, slowest s)"] = counts
    assert count["failed"] == 0, count["lines"]


def test_generate_under_load_survives_a_rolling_upgrade(installed: Release, figures: dict[str, Any]) -> None:
    load = work.generate_load(installed, "tuned", 900, GENERATE_RATE, "mixed")
    upgrade_under(load, installed, "inference", "Generate", figures)


def test_render_song_under_load_survives_a_rolling_upgrade(installed: Release, figures: dict[str, Any]) -> None:
    upgrade_under(work.render_load(installed, 900, RENDER_RATE), installed, "rendering", "RenderSong", figures)


@pytest.fixture
def earlier(
    installed: Release, settings: Settings, gpu_nodes: list[dict[str, Any]], prometheus: Prometheus
) -> Iterator[Release]:
    """The earlier release with the songbook and a model, under the name of this one."""
    chart, tag, command = (os.environ.get(f"PREVIOUS_{name}") for name in ("CHART", "TAG", "LUTHIER"))
    if not (chart and tag and command):
        pytest.skip("PREVIOUS_CHART, _TAG and _LUTHIER are not all set: no earlier release to upgrade")
    kube, old = Kube("luthier-earlier"), replace(settings, tag=tag)
    gone(kube.namespace)
    namespace(kube.namespace)
    kube.apply(scripts())
    found = Release("luthier", kube, old, overlay(old, gpu_nodes, prometheus), Path(chart), Path(command))
    found.secrets()
    found.helm("install")
    ready(found)
    submitted = work.submit(found, "--collection", "songbook", "--songbook", "--songs", "6", "--shards", "1")
    kube.wait_job(submitted["run"], 600)
    found.luthier("review", "--collection", "songbook", "--accept", "checked", "--as", "test")
    found.luthier("export", "--collection", "songbook", "--validation-share", "0.25", "--test-share", "0")
    found.luthier("train", "--tiny-base", "--dataset", "songbook", "--name", "base", "--steps", "10", timeout_s=900)
    yield found
    gone(kube.namespace)


def ready(release: Release) -> None:
    """Waits for every service."""
    for service in (*SERVICES, "monitor"):
        release.kube("rollout", "status", f"deploy/{release.name}-{service}", "--timeout=420s", timeout_s=430)


def test_an_earlier_release_is_upgraded_with_its_data_under_load(
    earlier: Release, settings: Settings, figures: dict[str, Any]
) -> None:
    before = work.run_of(earlier, "songbook")
    load = work.generate_load(earlier, "base", 900, 0.5)
    begun = time.monotonic()
    earlier.chart, earlier.settings, earlier.command = CHART, settings, LUTHIER
    earlier.helm("upgrade", values={"image": {"tag": settings.tag}})
    ready(earlier)
    figures["seconds to upgrade an earlier release"] = round(time.monotonic() - begun)
    count = load.stop()
    figures["Generate while an earlier release is upgraded (calls, failed)"] = (count["calls"], count["failed"])
    assert count["failed"] == 0, count["lines"]
    after = work.run_of(earlier, "songbook")
    assert (after["songs"], after["rendered"], after["clips"]) == (before["songs"], before["rendered"], before["clips"])
    assert [model["name"] for model in earlier.luthier("status")["models"]] == ["base"]
    again = work.submit(earlier, "--collection", "songbook", "--songbook", "--songs", "6", "--shards", "1", "--again")
    earlier.kube.wait_job(again["run"], 600)
    assert work.run_of(earlier, "songbook")["failures"] == []
    earlier.luthier("export", "--collection", "songbook", "--validation-share", "0.25", "--test-share", "0")
    earlier.helm_test()
