"""What one run of 250 to 2,000 shards asks of Kubernetes, counted on 1,000 nodes that kwok pretends.

    KUBECONFIG=… tests/.venv/bin/python -m tests.bench.scale_cluster [--nodes 1000] [--shards 250 500 1000 2000]
        [--workers 500 1000 2000]

API server, controllers, scheduler and etcd are real, and so is the chart; `luthier submit` makes the Jobs. Only nodes
and containers are pretended: a Pod "runs" as soon as it has a node, one of a Job is done after a while. So what is
counted is what Luthier's objects cost the control plane, and nothing about audio. kubectl, helm and kwok must be there.
Nodes that are there are cordoned meanwhile; the cluster should have nothing else to do, and an etcd of 3.5.13 or newer:
an API server on an older one refuses kwok's watches.

Printed, for each number of shards: requests by verb and resource (`apiserver_request_total`, after less before,
without leases, nodes and this program's own), objects, seconds until all shards run, and the same for each shard. Then
the Deployment of rendering is scaled to as many workers, for its EndpointSlices. Growth that is worse than linear shows
as a rising number.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.kube import Kube, run, wait_until
from tests.cluster.release import gone, namespace, secret
from tests.system import LUTHIER

ROOT: Final = Path(__file__).parents[2]
STAGES: Final = Path(__file__).with_name("pretended.yaml")
SPACE: Final = "luthier-scale"
RELEASE: Final = "luthier"
PRETENDED: Final = "luthier.io/pretended"
NODE_CORES, NODE_MEMORY = 4, "16Gi"
LEASE_S: Final = 120  # renewed every quarter of it, and missed after 50 s: heartbeats are not what is measured
MIN_WORK_S: Final = 45.0
PODS_PER_S: Final = 8.0  # begun by the controllers, at least: their clients ask the API server 20 times a second
SETTLE_S: Final = 8.0
NOT_COUNTED: Final = frozenset({"leases", "nodes", "persistentvolumes", ""})
"""Nothing of Luthier asks for these again and again; the machine that makes this cluster's volumes may."""
_REQUEST = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SIZE = re.compile(r"^apiserver_storage_size_bytes\{.*\} (\S+)$", re.MULTILINE)

Requests = Counter[tuple[str, str]]
"""Number by verb and resource, with its subresource."""


def requests() -> tuple[Requests, float]:
    """All requests that the API server has answered, of watches not their events; and the bytes of etcd's file."""
    text, found = run("kubectl", "get", "--raw", "/metrics"), Requests()
    for labels, value in _REQUEST.findall(text):
        of = dict(_LABEL.findall(labels))
        resource = of["resource"] + (f"/{of['subresource']}" if of["subresource"] else "")
        if of["resource"] not in NOT_COUNTED:
            found[of["verb"], resource] += int(float(value))
    return found, max(map(float, _SIZE.findall(text)), default=0.0)


def count(kube: Kube, group: str, kind: str) -> int:
    """Objects of a kind in the namespace, for one request."""
    listed = json.loads(kube("get", "--raw", f"/{group}/namespaces/{kube.namespace}/{kind}?limit=1"))
    return len(listed["items"]) + int(listed["metadata"].get("remainingItemCount", 0))


def objects(kube: Kube) -> dict[str, int]:
    """Objects of the namespace that there could be many of."""
    kinds = {
        "Pods": ("api/v1", "pods"),
        "Events": ("api/v1", "events"),
        "EndpointSlices": ("apis/discovery.k8s.io/v1", "endpointslices"),
        "Jobs": ("apis/batch/v1", "jobs"),
        "ConfigMaps": ("api/v1", "configmaps"),
    }
    return {name: count(kube, *where) for name, where in kinds.items()}


@contextmanager
def pretended_nodes(number: int) -> Iterator[None]:
    """Nodes that nothing stands behind; the real ones take no Pods meanwhile."""
    real = [node["metadata"]["name"] for node in json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]]
    for name in real:
        run("kubectl", "cordon", name)
    holds = {"cpu": str(NODE_CORES), "memory": NODE_MEMORY, "pods": "110", "ephemeral-storage": "200Gi"}
    nodes = []
    for name in (f"pretended-{i}" for i in range(number)):
        metadata = {"name": name, "labels": {PRETENDED: "true", "kubernetes.io/hostname": name}}
        status = {"allocatable": holds, "capacity": holds}
        nodes.append({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})
    run("kubectl", "create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
    try:
        yield
    finally:
        run("kubectl", "delete", "nodes", "-l", PRETENDED, "--wait=false", timeout_s=600)
        for name in real:
            run("kubectl", "uncordon", name)


@contextmanager
def kwok(program: str, log: Path) -> Iterator[None]:
    """Plays the pretended nodes."""
    command = [
        program, "--kubeconfig", os.environ["KUBECONFIG"], "--config", str(STAGES), "--manage-all-nodes=false",
        f"--manage-nodes-with-label-selector={PRETENDED}=true", f"--node-lease-duration-seconds={LEASE_S}",
    ]  # fmt: skip
    with log.open("w") as to, subprocess.Popen(command, stdout=to, stderr=subprocess.STDOUT) as process:
        try:
            wait_until("all nodes ready", lambda: all_ready() or died(process, log), 300)
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def all_ready() -> bool:
    states = [line.split()[1] for line in run("kubectl", "get", "nodes", "-l", PRETENDED, "--no-headers").splitlines()]
    return bool(states) and set(states) == {"Ready"}


def died(process: subprocess.Popen[bytes], log: Path) -> bool:
    """False while it lives; SystemExit with its log when it does not."""
    if process.poll() is not None:
        raise SystemExit(f"kwok ended:\n{log.read_text()[-3000:]}")
    return False


def install(kube: Kube, work_s: float) -> None:
    """The release, as for production with a store and a database elsewhere, or again with another `work_s`."""
    values = {
        "store": {"s3": {"endpoint": "store.example:443", "existingSecret": "luthier-s3"}},
        "database": {"existingSecret": "luthier-database"},
        "image": {"registry": "luthier.local"},
        "nodePools": {"gpu": {"selector": {PRETENDED: "true"}, "tolerations": [], "gpus": 0}},
        "podAnnotations": {"scale/work": f"{work_s:.0f}s"},
        "services": {"inference": {"nodePool": "default"}},
        "training": {"nodePool": "default"},
        "expiry": {"enabled": False},
    }
    run("helm", "upgrade", "--install", RELEASE, str(ROOT / "charts/luthier"), "-n", kube.namespace, "-f", "-",
        text=json.dumps(values))  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What `shards` shards, or as many workers, cost. `seconds` until all run."""

    shards: int
    seconds: float
    done_s: float
    asked: Requests
    there: dict[str, int]
    etcd_bytes: float
    job_bytes: int


def submitted(kube: Kube, shards: int) -> Cost:
    """One run of so many shards, from `luthier submit` until all its Pods are done."""
    work_s = max(MIN_WORK_S, shards / PODS_PER_S)
    install(kube, work_s)
    time.sleep(SETTLE_S)
    before, size = requests()
    asked_here, began = 0, time.monotonic()
    command = [str(LUTHIER), "submit", "--collection", "scale", "--songbook", "--shards", str(shards), "--again"]
    done = subprocess.run(
        [*command, "--release", RELEASE, "--namespace", kube.namespace, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    job = json.loads(done.stdout.splitlines()[-1])["run"]
    ready_s, most, there = 0.0, 0, dict[str, int]()
    while True:
        status = json.loads(kube("get", "--raw", f"/apis/batch/v1/namespaces/{kube.namespace}/jobs/{job}"))["status"]
        asked_here += 1
        if status.get("ready", 0) > most:
            most, ready_s = status["ready"], time.monotonic() - began
            if most == shards:
                there = objects(kube)
        if any(one["type"] == "Complete" and one["status"] == "True" for one in status.get("conditions", [])):
            break
        time.sleep(2.0)
    done_s = time.monotonic() - began
    print(f"  {shards} shards: {most} ran at once after {ready_s:.0f} s, all done after {done_s:.0f} s", flush=True)
    time.sleep(SETTLE_S)
    after, grown = requests()
    asked = after - before
    asked["GET", "jobs"] -= asked_here
    print(f"    {dict(asked.most_common(12))}", flush=True)
    whole = kube("get", "job", job, "-o", "json")
    kube("delete", "job", "--all", "--wait=false")
    wait_until("Pods of the run are gone", lambda: count(kube, "api/v1", "pods") < 60, 600, every_s=3)
    return Cost(shards, ready_s, done_s, asked, there or objects(kube), grown - size, len(whole))


def workers(kube: Kube, number: int) -> Cost:
    """Rendering scaled from none to so many workers."""
    kube("scale", f"deployment/{RELEASE}-rendering", "--replicas=0")
    wait_until("no worker", lambda: not ready_workers(kube), 300)
    time.sleep(SETTLE_S)
    before, size = requests()
    began, asked_here = time.monotonic(), 1
    kube("scale", f"deployment/{RELEASE}-rendering", f"--replicas={number}")
    while ready_workers(kube) < number:
        asked_here += 1
        time.sleep(2.0)
    seconds = time.monotonic() - began
    time.sleep(SETTLE_S)
    after, grown = requests()
    asked = after - before
    asked["GET", "deployments"] -= asked_here
    print(f"  {number} workers after {seconds:.0f} s: {dict(asked.most_common(12))}", flush=True)
    return Cost(number, seconds, seconds, asked, objects(kube), grown - size, 0)


def ready_workers(kube: Kube) -> int:
    path = f"/apis/apps/v1/namespaces/{kube.namespace}/deployments/{RELEASE}-rendering"
    return int(json.loads(kube("get", "--raw", path))["status"].get("readyReplicas", 0))


def table(costs: Sequence[Cost], what: str) -> None:
    """Requests of each number, whole and for each one."""
    rows = sorted({name for cost in costs for name, n in cost.asked.items() if n >= cost.shards / 50 and n > 5})
    print(f"\n| {what} | " + " | ".join(f"{cost.shards:,}" for cost in costs) + " |")
    print("|---|" + "---|" * len(costs))

    def line(name: str, values: Sequence[float], each: bool = True) -> None:
        cells = (f"{v:,.0f}" + (f" ({v / c.shards:.2f})" if each else "") for v, c in zip(values, costs, strict=True))
        print(f"| {name} | " + " | ".join(cells) + " |")

    for verb, resource in rows:
        line(f"{verb} {resource}", [cost.asked[verb, resource] for cost in costs])
    line("all requests", [sum(cost.asked.values()) for cost in costs])
    for kind in costs[0].there:
        line(f"{kind} at most", [cost.there[kind] for cost in costs])
    line("seconds until all run", [cost.seconds for cost in costs], each=False)
    line("growth of etcd's file, kB", [cost.etcd_bytes / 1000 for cost in costs])
    if any(cost.job_bytes for cost in costs):
        line("bytes of the Job when done", [cost.job_bytes for cost in costs], each=False)


def idle() -> Requests:
    """What the release asks in a minute when nothing is to be done."""
    time.sleep(2 * SETTLE_S)
    before, _ = requests()
    time.sleep(60)
    after, _ = requests()
    return after - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--shards", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--workers", type=int, nargs="*", default=[500, 1000, 2000])
    parser.add_argument("--kwok", default=os.environ.get("LUTHIER_KWOK") or str(ROOT / ".tools/bin/kwok"))
    arguments = parser.parse_args()
    for program in ("kubectl", "helm", arguments.kwok):
        if not shutil.which(program):
            sys.exit(f"{program} is not there")
    kube = Kube(SPACE)
    gone(SPACE)
    log = Path(tempfile.mkdtemp(prefix="luthier-scale-")) / "kwok.log"
    with pretended_nodes(arguments.nodes), kwok(arguments.kwok, log):
        namespace(SPACE)
        kube.apply(secret("luthier-s3", {"access-key": "scale", "secret-key": "scale-scale"}))
        kube.apply(secret("luthier-database", {"url": "postgresql+psycopg://scale@database.example/scale"}))
        try:
            measure(kube, arguments.nodes, arguments.shards, arguments.workers)
        finally:
            gone(SPACE)


def measure(kube: Kube, nodes: int, shards: Sequence[int], workers_of: Sequence[int]) -> None:
    """All of it, in a namespace that is there."""
    install(kube, MIN_WORK_S)
    wait_until("services ready", lambda: ready_workers(kube) == 1, 300)
    print(f"{nodes} pretended nodes; a release without work: {objects(kube)}", flush=True)
    print(f"asked in an idle minute: {dict(idle().most_common(8))}", flush=True)
    runs = [submitted(kube, number) for number in shards]
    table(runs, "shards")
    scaled = [workers(kube, number) for number in workers_of]
    if scaled:
        table(scaled, "render workers")


if __name__ == "__main__":
    main()
