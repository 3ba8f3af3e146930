"""Store, database, DNS and a node away in turn, under load of all kinds: nothing that was answered is lost, and
everything is well again by itself.

`CHAOS_MINUTES` (30) is how long the turns go on, each part at least once.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.cluster import work
from tests.cluster.kube import Kube, name_of, wait_until
from tests.cluster.release import Release

MINUTES = float(os.environ.get("CHAOS_MINUTES", "30"))
AWAY_S = 60
CALM_S = 75  # between two turns, and before the first
RECOVERY_S = 90  # after which no call of another team may fail any more
SONGS = 12
VARIATIONS = min(100, max(1, round(MINUTES * 3)))  # of each: work for all turns on two cores
STEPS = max(100, round(MINUTES * 200))  # of the training: two cores do 3.5 a second beside the songs
ROUND_S = 900  # a round of all parts, at most
SYSTEM = Kube("kube-system")
DNS = "k8s-app=kube-dns"


@dataclass
class Turn:
    """What was away from when to when, by the clock in seconds."""

    name: str
    began_s: float
    ended_s: float


@contextmanager
def without(kube: Kube, kind: str, name: str) -> Iterator[None]:
    """A workload at zero, its Pods killed without a farewell; as many as before at the end."""
    spec = kube.get(kind, name)["spec"]
    labels = ",".join(f"{key}={value}" for key, value in spec["selector"]["matchLabels"].items())
    kube("scale", f"{kind}/{name}", "--replicas=0")
    kube("delete", "pods", "-l", labels, "--grace-period=0", "--force", "--wait=false")
    try:
        yield
    finally:
        kube("scale", f"{kind}/{name}", f"--replicas={spec['replicas']}")


@contextmanager
def dark(power: Any, node: str) -> Iterator[None]:
    """A node without power."""
    power(node)
    try:
        yield
    finally:
        power.on(node)


def test_nothing_is_lost_when_parts_are_away_in_turn(
    installed: Release, power: Any, gpu_nodes: list[dict[str, Any]], figures: dict[str, Any]
) -> None:
    kube, name = installed.kube, installed.name
    away: dict[str, Callable[[], Any]] = {
        "store": lambda: without(kube, "statefulset", f"{name}-minio"),
        "PostgreSQL": lambda: without(kube, "statefulset", f"{name}-postgresql"),
    }
    if servers := SYSTEM.items("deployments", DNS):
        away["DNS"] = lambda: without(SYSTEM, "deployment", name_of(servers[0]))
    if gpu_nodes:
        away["GPU node"] = lambda: dark(power, name_of(gpu_nodes[0]))
    submitted = work.submit(
        installed, "--collection", "chaos", "--songbook", "--variations", str(VARIATIONS), "--shards", "2"
    )
    training = ("--base", "base", "--dataset", "songbook", "--name", "chaos", "--steps", str(STEPS))
    installed.begin("train", *training, "--batch-size", "4", "--validate-every", str(STEPS), "--checkpoint-every", "50")
    whole_s = MINUTES * 60 + ROUND_S
    loads = {
        "Generate": work.generate_load(installed, "tuned", whole_s, 0.3, "mixed"),
        "RenderSong": work.render_load(installed, whole_s, 0.5),
        "ReviewClips": work.review_load(installed, "songbook", whole_s, 1.0),
    }
    turns, begun = list[Turn](), time.monotonic()
    for part, leave in itertools.cycle(away.items()):
        if len(turns) >= len(away) and time.monotonic() - begun >= MINUTES * 60:
            break
        time.sleep(CALM_S)
        with leave():
            began_s = time.time()
            time.sleep(AWAY_S)
        turns.append(Turn(part, began_s, time.time()))
    time.sleep(CALM_S)
    minutes = round((time.monotonic() - begun) / 60)
    with ThreadPoolExecutor() as pool:
        counts = dict(zip(loads, pool.map(lambda load: load.stop(), loads.values()), strict=True))
    for method, count in counts.items():
        figures[f"{method} in {minutes} min of chaos (calls, failed, lost)"] = tuple(
            count[key] for key in ("calls", "failed", "lost")
        )
    figures["parts that were away, one at a time"] = ", ".join(turn.name for turn in turns)
    failures = [failure_of(line) for line in counts["Generate"]["lines"]]
    figures["seconds from a part's return to the last failed Generate, at most"] = {
        part: round(
            max(
                (end - turn.ended_s for turn in turns if turn.name == part for _, end in near(failures, turn)),
                default=0,
            )
        )
        for part in away
    }
    outside = [
        line
        for line, failure in zip(counts["Generate"]["lines"], failures, strict=True)
        if not any(failure in near([failure], turn) for turn in turns)
    ]
    assert not outside, outside
    for method in ("RenderSong", "ReviewClips"):
        assert (counts[method]["failed"], counts[method]["lost"]) == (0, 0), counts[method]["lines"]

    kube.wait_job(submitted["run"], 3000)
    ended = work.run_of(installed, "chaos")
    assert (ended["songs"], ended["rendered"], ended["failures"]) == (SONGS, SONGS, [])
    varied = (ended["variations"], ended["variations_rendered"], ended["variations_failed"])
    assert varied == (SONGS * VARIATIONS, SONGS * VARIATIONS, 0)
    figures["songs and variations rendered through the chaos"] = (ended["rendered"], ended["variations_rendered"])
    trained = wait_until("the training has ended", lambda: training_ended(installed), 3000, every_s=10)
    assert trained["state"] == "RUN_STATE_SUCCEEDED", trained
    figures[f"attempts of a training of {STEPS} steps through the chaos"] = trained["attempts"]


def failure_of(line: str) -> tuple[float, float]:
    """When a call of load.py began and failed, by the clock in seconds."""
    end, rest = line.split(" ", 1)
    return float(end) - float(rest.split(" failed after ", 1)[1].split(" s:", 1)[0]), float(end)


def near(failures: list[tuple[float, float]], turn: Turn) -> list[tuple[float, float]]:
    """The calls that ran while a part was away or just back."""
    return [(begun, end) for begun, end in failures if end >= turn.began_s - 1 and begun <= turn.ended_s + RECOVERY_S]


def training_ended(release: Release) -> dict[str, Any] | None:
    """The run of the chaos, once it has."""
    runs = [run for run in release.luthier("status")["trainings"] if run["request"]["model_name"] == "chaos"]
    return runs[0] if runs and runs[0]["state"] not in ("RUN_STATE_QUEUED", "RUN_STATE_RUNNING") else None
