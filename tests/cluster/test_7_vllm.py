"""vLLM as the chart deploys it: a model of random weights on a CPU writes captions, and waiting requests start another.

`VLLM_IMAGE` names the image of `tests/cluster/vllm`, which must be on the GPU pool's nodes; else these are skipped.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import work
from tests.cluster.kube import wait_until
from tests.cluster.monitoring import Prometheus
from tests.cluster.release import RESTRICTED, Release

ARGS = "--enforce-eager --max-model-len=4096 --max-num-seqs=1 --max-num-batched-tokens=4096"
WAITING = "sum(vllm:num_requests_waiting)"


@pytest.fixture(scope="module")
def image(gpu_nodes: list[dict[str, Any]]) -> str:
    if not gpu_nodes:
        pytest.skip("no GPU pool")
    return os.environ.get("VLLM_IMAGE") or pytest.skip("VLLM_IMAGE is not set")


@pytest.fixture(scope="module")
def claim(installed: Release, image: str) -> str:
    """A volume with the model, made where vLLM will run."""
    kube, pool, name = installed.kube, installed.values["nodePools"]["gpu"], "llm"
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "200Mi"}}}
    container = {
        "name": "make",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/opt/make_model.py", "/models/tiny"],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "models", "mountPath": "/models"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "containers": [container],
        "restartPolicy": "Never",
        "nodeSelector": pool["selector"],
        "tolerations": pool["tolerations"],
        "securityContext": {"fsGroup": 10001},
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": name}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    kube("delete", "pod", "make-model", "--ignore-not-found")
    kube.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": size},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "make-model"}, "spec": spec},
    )
    wait_until("the model is made", lambda: kube.get("pod", "make-model")["status"]["phase"] == "Succeeded", 300)
    kube("delete", "pod", "make-model")
    return name


@pytest.fixture(scope="module")
def writing(installed: Release, image: str, claim: str, crds: set[str], figures: dict[str, Any]) -> Iterator[Release]:
    """The release with vLLM, scaled by KEDA where the cluster has it; off again at the end."""
    registry, _, rest = image.partition("/")
    repository, _, tag = rest.partition(":")
    vllm: dict[str, Any] = {
        "enabled": True,
        "image": {"registry": registry, "repository": repository, "tag": tag},
        "model": {"claim": claim, "path": "/models/tiny", "name": "tiny"},
        "args": ARGS.split(),
        "extraEnv": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}],
        "resources": {"requests": {"cpu": "50m", "memory": "1Gi"}, "limits": {"memory": "8Gi"}},
        "sharedMemory": "1Gi",
    }
    if "scaledobjects.keda.sh" in crds:
        quick = {"pollingSeconds": 5, "scaleDownSeconds": 15}
        vllm["autoscaling"] = {"enabled": True, "maxReplicas": 2, **quick}
    begun = time.monotonic()
    installed.helm("upgrade", values={"llm": {"vllm": vllm}})
    for name in ("vllm", "prompting"):
        installed.kube("rollout", "status", f"deploy/{installed.name}-{name}", "--timeout=600s", timeout_s=610)
    figures["seconds until vLLM serves on a CPU"] = round(time.monotonic() - begun)
    yield installed
    installed.helm("upgrade")


def test_captions_are_written_by_vllm_and_waiting_requests_start_another(
    writing: Release, prometheus: Prometheus, crds: set[str], figures: dict[str, Any]
) -> None:
    """Every fact is in the caption, though the model knows nothing: what it says is bound by a grammar."""
    kube = writing.kube
    submitted = work.submit(writing, "--collection", "worded", "--songbook", "--songs", "4", "--shards", "1")
    waiting: list[float] = []

    def done() -> bool:
        waiting.append(prometheus.value(WAITING) or 0)
        job = kube.get("job", submitted["run"])["status"]
        return bool(job.get("succeeded"))

    if "scaledobjects.keda.sh" in crds:

        def second() -> bool:
            return not done() and len(kube.pods(writing.selector("vllm"))) == 2

        wait_until("a second vLLM is asked for", second, 600)
        figures["requests waiting at vLLM when a second was asked for"] = max(waiting)
    wait_until("the songs are done", done, 900)
    run = work.run_of(writing, "worded")
    assert (run["songs"], run["rendered"], run["failures"]) == (4, 4, [])
    prompts = captions(writing, "worded")
    assert prompts
    assert sum(composer == "vllm" for composer in prompts) >= len(prompts) / 2
    figures["captions by vLLM on the cluster, of"] = (sum(c == "vllm" for c in prompts), len(prompts))


CAPTIONS = """
import json, os
from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from luthier_kit.rpc import Channel
stub = CurationServiceStub(Channel(os.environ["LUTHIER_CURATION_ADDRESS"]))
request = pb.ListClipsRequest(filter=pb.ClipFilter(collection={collection!r}), page_size=500)
print(json.dumps([prompt.composer for clip in stub.ListClips(request, timeout=60).clips for prompt in clip.prompts]))
"""


def captions(release: Release, collection: str) -> list[str]:
    """Who composed each caption of a collection's clips."""
    code = CAPTIONS.format(collection=collection)
    out = release.kube("exec", f"deploy/{release.name}-monitor", "--", "python", "-c", code)
    return list(json.loads(out.strip().splitlines()[-1]))
