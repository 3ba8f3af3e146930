"""Rolling upgrades under load: no call fails, and connections move to the new Pods."""

import time
from typing import Any

from tests.cluster import work
from tests.cluster.kube import name_of, wait_until
from tests.cluster.release import Release

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
