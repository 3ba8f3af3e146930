"""The few endpoints of a Kubernetes API server that `luthier submit` asks, over real HTTP on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class KubeApi(ThreadingHTTPServer):
    """Keeps what is created by path. `refusing` maps the beginning of a path to the status that it answers with."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, dict[str, Any]] = {}
        self.refusing: dict[str, int] = {}
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def kubeconfig(self, namespace: str) -> str:
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
        users = [{"name": "u", "user": {"token": "t"}}]
        parts = {"clusters": [cluster], "contexts": [context], "current-context": "c", "users": users}
        return json.dumps({"apiVersion": "v1", "kind": "Config", **parts})

    def jobs(self) -> dict[str, dict[str, Any]]:
        return {path.rpartition("/")[2]: found for path, found in self.objects.items() if "/jobs/" in path}


class _Handler(BaseHTTPRequestHandler):
    server: KubeApi

    def do_GET(self) -> None:
        if not self._refused():
            found = self.server.objects.get(self.path)
            self._answer(200, found) if found else self._status(404, f"{self.path} not found")

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = f"{self.path}/{document['metadata']['name']}"
        if self._refused():
            return
        if path in self.server.objects:
            self._status(409, "already exists")
            return
        document.setdefault("status", {})
        self.server.objects[path] = document
        self._answer(201, document)

    def _refused(self) -> bool:
        status = next((code for path, code in self.server.refusing.items() if self.path.startswith(path)), 0)
        if status:
            self._status(status, "the test refuses this")
        return bool(status)

    def _status(self, code: int, message: str) -> None:
        self._answer(
            code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
        )

    def _answer(self, code: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
