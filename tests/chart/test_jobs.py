"""Templates of the Jobs that training and `luthier submit` create, and the CronJob of what expires."""

import pytest

from tests.chart.rendering import Helm, Manifest, env, jobs, named, pods

ADDRESSES = {
    f"LUTHIER_{name}_ADDRESS"
    for name in ("RENDERING", "ANALYSIS", "ENRICHMENT", "PROMPTING", "CURATION", "TRAINING", "INFERENCE", "EVALUATION")
}


@pytest.fixture(scope="module")
def queued(helm: Helm) -> dict[str, Manifest]:
    return jobs(helm.render("try", {"pipeline": {"queue": "cpu"}, "training": {"queue": "gpu", "nodePool": "gpu"}}))


def test_there_are_three_complete_jobs(variant: list[Manifest]) -> None:
    found = jobs(variant)
    assert set(found) == {"ingest.yaml", "shards.yaml", "training-run.yaml"}
    assert {job["kind"] for job in found.values()} == {"Job"}


def test_pods_of_a_lost_node_are_replaced_soon(variant: list[Manifest]) -> None:
    for key, job in jobs(variant).items():
        assert "podFailurePolicy" not in job["spec"], key
        spec = job["spec"]["template"]["spec"]
        seconds = {t["key"]: t["tolerationSeconds"] for t in spec["tolerations"] if "tolerationSeconds" in t}
        assert seconds == {"node.kubernetes.io/unreachable": 30, "node.kubernetes.io/not-ready": 30}, key


def test_jobs_end_and_are_deleted(variant: list[Manifest]) -> None:
    for key, job in jobs(variant).items():
        assert job["spec"]["ttlSecondsAfterFinished"] > 0, key
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never", key


def test_shards_are_indexed(trying: list[Manifest]) -> None:
    spec = jobs(trying)["shards.yaml"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["backoffLimitPerIndex"] >= 3, "failures of one shard do not count for another"


def test_the_pipeline_has_every_address_and_the_store(trying: list[Manifest]) -> None:
    container = jobs(trying)["shards.yaml"]["spec"]["template"]["spec"]["containers"][0]
    variables = env(container)
    assert variables.keys() >= ADDRESSES
    assert variables["LUTHIER_RENDERING_ADDRESS"] == "lt-rendering.music.svc.cluster.local:7100"
    assert variables["LUTHIER_S3_ENDPOINT"] == "lt-minio.music.svc.cluster.local:9000"
    assert variables["LUTHIER_S3_ACCESS_KEY_FILE"] == "/etc/luthier/s3/access-key"


def test_ingest_has_the_addresses_of_what_it_calls(trying: list[Manifest]) -> None:
    """Enrichment, too: it reads the sheet of tags beside the songs, and ingest waits for it."""
    container = jobs(trying)["ingest.yaml"]["spec"]["template"]["spec"]["containers"][0]
    assert env(container).keys() & ADDRESSES == {"LUTHIER_RENDERING_ADDRESS", "LUTHIER_ENRICHMENT_ADDRESS"}


def test_kueue_admits_what_has_a_queue(queued: dict[str, Manifest], trying: list[Manifest]) -> None:
    queues = {key: job["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") for key, job in queued.items()}
    assert queues == {"ingest.yaml": "cpu", "shards.yaml": "cpu", "training-run.yaml": "gpu"}
    assert all(job["spec"]["suspend"] for job in queued.values())
    assert not any("suspend" in job["spec"] for job in jobs(trying).values())


def test_training_runs_on_its_pool(queued: dict[str, Manifest]) -> None:
    spec = queued["training-run.yaml"]["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["containers"][0]["command"] == ["python"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]


def test_the_launcher_reads_its_template(trying: list[Manifest]) -> None:
    deployment = next(m for m in trying if m["kind"] == "Deployment" and m["metadata"]["name"] == "lt-training")
    spec = deployment["spec"]["template"]["spec"]
    variables = env(spec["containers"][0])
    assert variables["LUTHIER_TRAINING_LAUNCHER"] == "kubernetes"
    assert variables["LUTHIER_JOB_TEMPLATE"] == "/etc/luthier/jobs/training-run.yaml"
    assert {"name": "jobs", "configMap": {"name": "lt-jobs"}} in spec["volumes"]


def test_generated_audio_expires_every_hour_and_never_twice_at_a_time(trying: list[Manifest]) -> None:
    spec = named(trying, "CronJob")["expiry"]["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("17 * * * *", "Forbid")
    container = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["gc", "--generated", "--generated-older-than", "168"]
    assert container["image"].partition(":")[0].endswith("/pipeline")


def test_schedule_and_age_of_what_expires_are_values(helm: Helm) -> None:
    manifests = helm.render("try", {"expiry": {"schedule": "@daily", "hours": 87660}})
    spec = named(manifests, "CronJob")["expiry"]["spec"]
    assert spec["schedule"] == "@daily"
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"][-1] == "87660", "no 8.766e+04"


def test_what_expires_needs_the_store_and_no_service(trying: list[Manifest]) -> None:
    container = named(trying, "CronJob")["expiry"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    variables = env(container)
    assert variables["LUTHIER_STORE"] == "s3"
    assert not variables.keys() & {*ADDRESSES, "LUTHIER_TOKEN_FILE"}


def test_without_expiry_nothing_of_it_is_left(helm: Helm) -> None:
    assert "lt-expiry" not in helm.text("try", {"expiry": {"enabled": False}})


def test_an_expected_store_is_expected_by_everybody_and_created_by_nobody(helm: Helm) -> None:
    """Not at the first installation: services start beside the Job that marks the bucket, and would be refused."""
    for expected in (False, True):
        found = list(pods(helm.render("try", {"store": {"s3": {"expected": expected}}})))
        stores = [env(pod.spec["containers"][0]) for pod in found if "LUTHIER_STORE" in env(pod.spec["containers"][0])]
        assert len(stores) >= 13
        assert {variables.get("LUTHIER_STORE_EXPECTED") for variables in stores} == {"1" if expected else None}
        assert {variables.get("LUTHIER_CREATE_BUCKET") for variables in stores} == {None if expected else "1"}
