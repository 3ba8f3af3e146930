"""`luthier submit`: the Jobs that it creates, through the real client, at a server that speaks the API's endpoints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from luthier_pipeline.cli import load
from tests.kubernetes_api import Api, kubeconfig
from tests.pipeline.fakes import luthier


def template(name: str) -> str:
    container = {
        "name": "pipeline",
        "image": "my-registry/luthier/pipeline:0.1.0",
        "args": ["run"],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "metadata": {"labels": {"app.kubernetes.io/component": "pipeline"}},
        "spec": {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}], "restartPolicy": "Never"},
    }
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"luthier-{name}", "labels": {"queue": "q"}}}
    return yaml.safe_dump({**job, "spec": {"suspend": True, "template": pod}})


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    api = Api()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(api.url, tmp_path / "config")))
    api.config_map("luthier-jobs", {"ingest.yaml": template("ingest"), "shards.yaml": template("run")})
    api.claims["songs"] = {"metadata": {"name": "songs"}}
    yield api
    api.close()


def submitted(line: str) -> dict[str, Any]:
    done = luthier(f"submit {line} --json")
    assert done.code == 0, done.err
    return done.document


def refused(line: str, reason: str) -> str:
    done = luthier(f"submit {line} --json")
    assert (done.code, done.document["error"]["reason"]) == (1, reason)
    return done.err


def parses(arguments: list[str]) -> bool:
    """Whether the command in the Pod understands these arguments."""
    name, *rest = arguments
    return bool(load(name).make_context(name, rest))


def arguments(job: dict[str, Any]) -> list[str]:
    found: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def test_the_two_jobs_of_the_songbook(api: Api) -> None:
    answer = submitted("--collection book --songbook --songs 4 --shards 3 --parallelism 2 --mix-only --in-flight 8")
    ingest, run = api.jobs[answer["ingest"]], api.jobs[answer["run"]]
    name = run["metadata"]["annotations"]["luthier/pipeline-run"]
    common = ["--collection", "book", "--submission", name, "--json"]
    assert arguments(ingest) == [
        "ingest",
        "--songbook",
        "--songs",
        "4",
        *common,
        "--licence",
        "Apache-2.0",
        "--near-duplicates",
        "drop",
        "--shards",
        "3",
    ]
    assert arguments(run) == ["run", "corpora/book", "--shards", "3", *common, "--in-flight", "8", "--mix-only"]
    spec = run["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"], spec["suspend"]) == (
        "Indexed",
        3,
        2,
        True,
    )
    assert "completionMode" not in ingest["spec"]
    for job in (ingest, run):
        [owner] = job["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", "luthier-jobs", "uid-of-luthier-jobs")
    assert run["metadata"]["labels"] == {"queue": "q", "luthier/submission": answer["id"]}
    assert run["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "pipeline"
    assert parses(arguments(ingest))
    assert parses(arguments(run))


def test_a_claim_is_mounted_read_only_where_ingest_looks(api: Api) -> None:
    answer = submitted("--collection mine --claim songs:clean/midi --shards 1")
    ingest = api.jobs[answer["ingest"]]
    pod = ingest["spec"]["template"]["spec"]
    assert pod["volumes"][-1] == {"name": "corpus", "persistentVolumeClaim": {"claimName": "songs", "readOnly": True}}
    mount = {"name": "corpus", "mountPath": "/corpus", "readOnly": True, "subPath": "clean/midi"}
    assert pod["containers"][0]["volumeMounts"][-1] == mount
    assert arguments(ingest)[:2] == ["ingest", "/corpus"]
    assert all(v["name"] != "corpus" for v in api.jobs[answer["run"]]["spec"]["template"]["spec"]["volumes"])


def test_sounds_and_styles_are_asked_of_the_shards(api: Api) -> None:
    sounds = "--backend map --humanise-timing-ms 8 --humanise-velocity 0 --styles short,tags"
    answer = submitted(f"--collection book --songbook --shards 2 {sounds}")
    run = arguments(api.jobs[answer["run"]])
    assert run[-8:-2] == ["--backend", "map", "--humanise-timing-ms", "8.0", "--humanise-velocity", "0.0"]
    assert run[-2:] == ["--styles", "short,tags"]


def test_subsets_are_asked_of_the_shards(api: Api) -> None:
    line = "--collection book --songbook --shards 2"
    run = arguments(api.jobs[submitted(f"{line} --subsets polyphonic,monophonic --solo-minutes 3")["run"]])
    assert run[-4:] == ["--subsets", "polyphonic,monophonic", "--solo-minutes", "3.0"]
    assert parses(run)
    assert "--subsets" not in arguments(api.jobs[submitted(line)["run"]])


def test_solos_without_stems_are_refused_before_anything_is_submitted(api: Api) -> None:
    done = luthier("submit --collection book --songbook --shards 2 --subsets monophonic --mix-only")
    assert (done.code, "--mix-only keeps none" in done.err, api.jobs) == (2, True, {})


def test_variations_of_solos_alone_are_refused_before_anything_is_submitted(api: Api) -> None:
    done = luthier("submit --collection book --songbook --shards 2 --subsets monophonic --variations 2")
    assert (done.code, "--variations makes others" in done.err, api.jobs) == (2, True, {})


def test_variations_are_asked_of_the_shards(api: Api) -> None:
    answer = submitted("--collection book --songbook --shards 2 --variations 24")
    assert arguments(api.jobs[answer["run"]])[-2:] == ["--variations", "24"]
    assert parses(arguments(api.jobs[answer["run"]]))


def test_the_same_again_is_the_same_and_something_else_is_not(api: Api) -> None:
    line = "--collection book --songbook --shards 2"
    first, second = submitted(line), submitted(line)
    assert (first["created"], second["created"], first["run"]) == (True, False, second["run"])
    assert len(api.jobs) == 2
    assert submitted(f"{line} --mix-only")["run"] != first["run"]
    assert submitted(f"{line} --again")["run"] != first["run"]


def test_a_submitter_that_died_between_the_jobs_is_completed_under_the_same_run(api: Api) -> None:
    line = "--collection book --songbook --shards 2"
    first = submitted(line)
    name = api.jobs[first["ingest"]]["metadata"]["annotations"]["luthier/pipeline-run"]
    del api.jobs[first["run"]]
    second = submitted(line)
    assert (second["created"], second["run"]) == (True, first["run"])
    assert name in arguments(api.jobs[second["run"]])


def test_wait_ends_with_the_job(api: Api) -> None:
    line = "--collection book --songbook --shards 2"
    run = submitted(line)["run"]
    api.jobs[run]["status"] = {"succeeded": 2, "conditions": [{"type": "Complete", "status": "True"}]}
    assert submitted(f"{line} --wait")["state"] == "COMPLETE"
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "index 1"}
    api.jobs[run]["status"] = {"conditions": [failed]}
    assert "BackoffLimitExceeded: index 1" in refused(f"{line} --wait", "JOB_FAILED")


@pytest.mark.parametrize(
    ("line", "reason", "text"),
    [
        ("--songbook --shards 1 --release other", "RELEASE_NOT_FOUND", "no release other in namespace"),
        ("--claim nothing --shards 1", "CLAIM_NOT_FOUND", "no PersistentVolumeClaim nothing in namespace"),
        ("--songbook --shards 10001", "INVALID_REQUEST", "--shards: must be between 1 and 10000"),
    ],
)
def test_what_is_not_there_is_named(api: Api, line: str, reason: str, text: str) -> None:
    assert text in refused(f"--collection book {line}", reason)
    assert api.jobs == {}


@pytest.mark.parametrize("line", ["--songbook --claim songs --shards 1", "--shards 1"])
def test_a_claim_or_the_songbook_is_named(api: Api, line: str) -> None:
    done = luthier(f"submit --collection book {line}")
    assert done.code == 2
    assert "--claim PVC" in done.err
    assert api.jobs == {}


@pytest.mark.parametrize("what", [("get", "jobs"), ("create", "jobs"), ("get", "configmaps")])
def test_who_may_not_is_told_what(api: Api, what: tuple[str, str]) -> None:
    api.refusals[what] = 403, "the test refuses this"
    text = refused("--collection book --songbook --shards 1", "KUBERNETES_FORBIDDEN")
    assert "the test refuses this" in text


def test_a_refusal_that_nests_a_hundred_thousand_deep_is_told_by_its_status(api: Api) -> None:
    api.refusals["create", "jobs"], api.refusal_body = (403, "unread"), b"[" * 100_000
    assert "403 Forbidden" in refused("--collection book --songbook --shards 1", "KUBERNETES_FORBIDDEN")


def test_a_template_that_is_no_job_is_refused(api: Api) -> None:
    api.config_maps["luthier-jobs"]["data"]["shards.yaml"] = "kind: Pod"
    text = refused("--collection book --songbook --shards 1", "JOB_TEMPLATE_INVALID")
    assert "ConfigMap luthier-jobs has no usable shards.yaml" in text
    assert api.jobs == {}


def test_without_a_kubeconfig_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    done = luthier("submit --collection book --songbook --shards 1")
    assert done.code == 1
    assert "set KUBECONFIG" in done.err
