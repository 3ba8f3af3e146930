"""A small server on loopback that speaks the API's Job endpoints: for the real client and the real protocol, without
a cluster. What a controller would do (Pods start, Jobs end, Kueue suspends) is done by the test through `jobs`, `pods`,
and what others made is in `config_maps`, `claims`.
"""

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

NAMESPACE = "studio"
PATH = re.compile(rf"/(?:api|apis/batch)/v1/namespaces/{NAMESPACE}/(\w+)(?:/([^/]+))?")
KINDS = {"pods": ("v1", "PodList"), "jobs": ("batch/v1", "JobList")}
Manifest = dict[str, Any]
Answer = tuple[int, Manifest]
"""Status and document."""
Query = dict[str, list[str]]
TEMPLATE: Manifest = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "lute-train", "labels": {"app.kubernetes.io/instance": "lute"}},
    "spec": {
        "backoffLimit": 6,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "runner", "image": "luthier.local/training:1", "command": ["python"]}],
            }
        },
    },
}


class Api:
    """Objects by name; `refusals` maps (verb, resource) to (status, message); `asked` is what was called."""

    def __init__(self) -> None:
        self.jobs: dict[str, Manifest] = {}
        self.pods: dict[str, Manifest] = {}
        self.config_maps: dict[str, Manifest] = {}
        self.claims: dict[str, Manifest] = {}
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        self.refusal_body = b""
        """Where it is set, the whole body of every refusal."""
        self.asked: list[tuple[str, str]] = []
        self.suspends = False
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                resource, name, query = self.asked()
                if name:
                    self.answer("get", resource, lambda: api.get(resource, name))
                else:
                    self.answer("list", resource, lambda: api.listed(resource, query))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.answer("create", "jobs", lambda: api.create(body, "dryRun" in self.asked()[2]))

            def do_DELETE(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                resource, name, query = self.asked()
                self.answer("delete", resource, lambda: api.delete(name, query))

            def asked(self) -> tuple[str, str, Query]:
                parts = urlsplit(self.path)
                found = PATH.fullmatch(parts.path)
                assert found, parts.path
                return found[1], found[2] or "", parse_qs(parts.query)

            def answer(self, verb: str, resource: str, act: Callable[[], Answer]) -> None:
                api.asked.append((verb, resource))
                status, document = refusal(*api.refusals[verb, resource]) if (verb, resource) in api.refusals else act()
                data = json.dumps(document).encode()
                data = api.refusal_body or data if status >= 400 else data
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def listed(self, resource: str, query: Query) -> Answer:
        name, _, value = query["labelSelector"][0].partition("=")
        found = [item for item in getattr(self, resource).values() if labelled(item, name, value)]
        version, kind = KINDS[resource]
        return 200, {"kind": kind, "apiVersion": version, "metadata": {}, "items": found}

    def get(self, resource: str, name: str) -> Answer:
        found = {"jobs": self.jobs, "configmaps": self.config_maps, "persistentvolumeclaims": self.claims}[resource]
        return (200, found[name]) if name in found else refusal(404, f'{resource} "{name}" not found')

    def config_map(self, name: str, data: dict[str, str]) -> None:
        self.config_maps[name] = {"metadata": {"name": name, "uid": f"uid-of-{name}"}, "data": data}

    def create(self, job: Manifest, dry: bool) -> Answer:
        name = job["metadata"]["name"]
        if name in self.jobs:
            return refusal(409, f'jobs.batch "{name}" already exists')
        if not job["spec"]["template"]["spec"]["containers"][0].get("image"):
            return refusal(
                422, f'Job.batch "{name}" is invalid: spec.template.spec.containers[0].image: Required value'
            )
        job["metadata"]["creationTimestamp"] = now()
        job["spec"].setdefault("suspend", self.suspends)
        job["status"] = {}
        if not dry:
            self.jobs[name] = job
        return 201, job

    def delete(self, name: str, query: Query) -> Answer:
        if name not in self.jobs:
            return refusal(404, f'jobs.batch "{name}" not found')
        if "dryRun" not in query:
            assert query["propagationPolicy"] == ["Background"]
            del self.jobs[name]
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def pod_runs(self, name: str) -> None:
        self.jobs[name]["spec"]["suspend"] = False
        self.jobs[name]["status"] = {"active": 1, "ready": 1}

    def ends(self, name: str, condition: str = "Failed", reason: str = "BackoffLimitExceeded") -> None:
        met = {"type": condition, "status": "True", "reason": reason}
        self.jobs[name]["status"] = {"failed": 7, "conditions": [met]}

    def pod(self, job: str, **status: object) -> None:
        name = f"{job}-{len(self.pods):05}"
        labels = self.jobs[job]["spec"]["template"]["metadata"]["labels"]
        metadata = {"name": name, "labels": labels, "creationTimestamp": now()}
        self.pods[name] = {"metadata": metadata, "spec": {"containers": []}, "status": status}


def kubeconfig(url: str, path: Path) -> Path:
    """A configuration file that leads to `url`."""
    cluster, user = {"name": "c", "cluster": {"server": url}}, {"name": "u", "user": {"token": "t"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}
    document = {"apiVersion": "v1", "kind": "Config", "current-context": "x"}
    path.write_text(yaml.safe_dump({**document, "clusters": [cluster], "users": [user], "contexts": [context]}))
    return path


def labelled(item: Manifest, name: str, value: str) -> bool:
    labels = item["metadata"]["labels"]
    return name in labels and value in ("", labels[name])


def refusal(code: int, message: str) -> Answer:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
