"""A fresh install into a namespace that enforces `restricted`: from MIDI files to a trained model that generates."""

import time
from typing import Any

import pytest

from tests.cluster import work
from tests.cluster.kube import wait_until
from tests.cluster.release import Release

SONGS = 12
TRAINING = ("--steps", "40", "--batch-size", "4", "--validate-every", "20", "--checkpoint-every", "10")


def test_every_service_is_ready_in_minutes(installed: Release, figures: dict[str, Any]) -> None:
    assert figures["seconds from helm install to every service ready"] < 420


def test_helm_test_generates_two_seconds(installed: Release) -> None:
    installed.helm_test()


def test_the_songbook_goes_through_two_shards(installed: Release, figures: dict[str, Any]) -> None:
    begun = time.monotonic()
    submitted = work.submit(installed, "--collection", "songbook", "--songbook", "--shards", "2")
    job = installed.kube.wait_job(submitted["run"], 600)
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["status"]["succeeded"] == 2
    run = work.run_of(installed, "songbook")
    assert (run["songs"], run["rendered"], run["failures"]) == (SONGS, SONGS, [])
    assert {shard["state"] for shard in run["shards"]} == {"DONE"}
    figures["seconds for the songbook through two shards"] = round(time.monotonic() - begun)


def test_a_model_is_trained_by_a_job_on_the_gpu_pool(
    installed: Release, gpu_nodes: list[dict[str, Any]], figures: dict[str, Any]
) -> None:
    begun = time.monotonic()
    installed.luthier("review", "--collection", "songbook", "--accept", "checked", "--as", "test")
    installed.luthier("export", "--collection", "songbook", "--validation-share", "0.25", "--test-share", "0")
    base = ("train", "--tiny-base", "--dataset", "songbook", "--name", "base", "--steps", "30", "--batch-size", "4")
    installed.luthier(*base, timeout_s=900)
    trained = installed.luthier(
        "train", "--base", "base", "--dataset", "songbook", "--name", "tuned", *TRAINING, timeout_s=900
    )
    assert trained["model"] == "tuned@1"
    pods = installed.kube.items("pods", installed.selector("training-run"))
    assert len(pods) >= 2
    if gpu_nodes:
        assert {pod["spec"]["nodeName"] for pod in pods} <= {node["metadata"]["name"] for node in gpu_nodes}
    figures["seconds to accept, export, make the tiny base and fine-tune it"] = round(time.monotonic() - begun)


def test_a_namespace_that_policy_allows_generates(installed: Release) -> None:
    assert "READY" in work.ask_once(installed, "luthier-callers", "tuned")


def test_a_namespace_that_policy_does_not_name_is_refused(installed: Release) -> None:
    output = work.ask_once(installed, "luthier-others", "tuned")
    assert "READY" not in output
    assert "failed" in output or not output.strip()


@pytest.mark.parametrize("name", ["luthier-others", "luthier-callers"])
def test_other_namespaces_cannot_reach_the_store(installed: Release, name: str) -> None:
    from tests.cluster.kube import Kube
    from tests.cluster.release import caller_pod

    kube, pod = Kube(name), "connect"
    host = f"{installed.name}-minio.{installed.kube.namespace}.svc"
    code = f"import socket; socket.create_connection(({host!r}, 9000), 8); print('REACHED')"
    kube("delete", "pod", pod, "--ignore-not-found")
    kube.apply(caller_pod(pod, installed.settings.image("pipeline"), ["python", "-c", code]))
    wait_until(
        "the connection attempt ended", lambda: kube.get("pod", pod)["status"]["phase"] in ("Succeeded", "Failed"), 60
    )
    assert "REACHED" not in kube.logs(pod)
