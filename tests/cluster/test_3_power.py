"""A node loses its power during work: nothing is lost or done twice, and work continues by itself."""

import time
from typing import Any

import pytest

from tests.cluster import work
from tests.cluster.conftest import cpu_nodes
from tests.cluster.kube import node_of, run, wait_until
from tests.cluster.release import Release

SONGS = 12


def stateful_nodes(release: Release) -> set[str]:
    """Nodes of MinIO and PostgreSQL, which have a single replica each."""
    return {node_of(pod) for part in ("minio", "postgresql") for pod in release.kube.pods(release.selector(part))}


def test_no_song_is_lost_when_a_node_with_a_shard_loses_power(
    installed: Release, power: Any, figures: dict[str, Any]
) -> None:
    stateful = stateful_nodes(installed)
    if not set(cpu_nodes()) - stateful:
        pytest.skip("store and database are on every node without GPUs: no shard runs on another")

    def victims() -> list[str]:
        state = work.run_of(installed, "power")
        if not 2 <= state["rendered"] < SONGS / 2:  # a slow machine renders more until the power is cut
            return []
        pods = installed.kube.pods(f"job-name={submitted['run']}", phase="Running")
        nodes = [node_of(pod) for pod in pods]
        return [node for node in nodes if node and node not in stateful]

    for node in stateful:  # else the scheduler may put both shards beside the store
        run("kubectl", "cordon", node)
    try:
        claim = work.corpus_claim(installed, "transposed", semitones=1)
        submitted = work.submit(installed, "--collection", "power", "--claim", claim, "--shards", "2")
        found = wait_until("a shard runs on a node without the store", victims, 400)
    finally:
        for node in stateful:
            run("kubectl", "uncordon", node)
    before = work.run_of(installed, "power")["rendered"]
    power(found[0])
    begun = time.monotonic()
    wait_until(
        "songs are rendered again", lambda: work.run_of(installed, "power")["rendered"] >= min(before + 2, SONGS), 400
    )
    figures["seconds from a node's power cut to songs rendered again"] = round(time.monotonic() - begun)
    wait_until("every song is done", lambda: work.run_of(installed, "power")["state"] == "DONE", 700)
    figures["seconds from the power cut to the end of the run"] = round(time.monotonic() - begun)
    power.on(found[0])  # a Job is complete only when the lost node's Pods are known to have ended
    installed.kube.wait_job(submitted["run"], 300)
    run_now = work.run_of(installed, "power")
    assert (run_now["songs"], run_now["rendered"], run_now["failures"]) == (SONGS, SONGS, [])
    again = work.submit(installed, "--collection", "power", "--claim", claim, "--shards", "2", "--again")
    installed.kube.wait_job(again["run"], 400)
    second = work.run_of(installed, "power")
    assert (second["rendered"], second["clips"]) == (SONGS, run_now["clips"])
    assert sum(shard["computed"] for shard in second["shards"]) == 0


def test_training_resumes_after_its_node_lost_power(
    installed: Release, power: Any, gpu_nodes: list[dict[str, Any]], figures: dict[str, Any]
) -> None:
    if not gpu_nodes:
        pytest.skip("no GPU pool: the training Pod could be on the store's node")
    request = ("--base", "base", "--dataset", "songbook", "--name", "cut", "--steps", "500", "--batch-size", "4")
    process = installed.begin("train", *request, "--validate-every", "500", "--checkpoint-every", "20")
    run_id = wait_until("the run is there", lambda: _run(installed, "cut"), 120)["run_id"]
    wait_until("checkpoints were written", lambda: done(_run(installed, "cut")) >= 60, 400)
    before = _run(installed, "cut")
    pods = installed.kube.pods(installed.selector("training-run"), phase="Running")
    node = node_of(pods[-1])
    power(node)
    begun = time.monotonic()
    time.sleep(20)
    power.on(node)
    after = wait_until("the run goes on", lambda: _goes_on(installed, before), 400)
    figures["seconds from the power cut of the training node (20 s without power) to the next step"] = round(
        time.monotonic() - begun
    )
    assert after["run_id"] == run_id
    process.wait(900)
    ended = _run(installed, "cut")
    assert ended["state"] == "RUN_STATE_SUCCEEDED"
    assert ended["attempts"] >= 2


def done(run: dict[str, Any]) -> int:
    """Training steps done; 64-bit numbers are texts in JSON."""
    return int(run.get("done", 0)) if run.get("stage") == "train" else 0


def _run(release: Release, model: str) -> dict[str, Any]:
    trainings = release.luthier("status")["trainings"]
    return next((run for run in trainings if run["request"]["model_name"] == model), {})


def _goes_on(release: Release, before: dict[str, Any]) -> dict[str, Any] | None:
    now = _run(release, "cut")
    return now if now.get("attempts", 0) > before["attempts"] and done(now) > 0 else None
